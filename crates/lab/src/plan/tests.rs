use super::*;

const PLAN: &str = r#"
name = "several"
repetitions = 2

[base]
backend = "transformers"
model = "base"
dtype = "f32"

[prompt]
documents = ["a.txt", "b.txt"]
tokens = 40

[models]
awq = "quantized"

[stack.other]
python = "envs/other/bin/python"
libraries = ["cublas"]

[[experiment]]
name = "batch_size"
vary.batch_size = [1, 2, 4]

[[experiment]]
name = "grid"
vary.batch_size = [2, 4]
vary.attention = ["eager", "sdpa_math"]

[[experiment]]
name = "quantization"
vary.quantization = ["awq"]
vary.stack = ["other"]

[[experiment]]
name = "half"
set.dtype = "f16"
vary.compile = [true]
"#;

fn parse(text: &str) -> Result<Plan, PlanError> {
    Plan::parse(text, "plans/p.toml".as_ref())
}

#[test]
fn every_configuration_runs_once_and_stands_in_every_output_that_asks_for_it() {
    let plan = parse(PLAN).unwrap();
    let ids: Vec<&str> = plan.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "reference",
            "batch_size_2",
            "batch_size_4",
            "batch_size_2-attention_eager",
            "batch_size_4-attention_eager",
            "batch_size_2-attention_sdpa_math",
            "batch_size_4-attention_sdpa_math",
            "quantization_awq-stack_other",
            "dtype_f16-compile_true",
        ]
    );
    let of = |name: &str| plan.experiments.iter().find(|experiment| experiment.name == name).unwrap();
    assert_eq!((of("batch_size").cells.as_slice(), of("grid").cells.len()), (&[0, 1, 2][..], 5));
    assert_eq!(of("reference").output, "reference_baseline.json");
    assert_eq!(of("batch_size").output, "batch_size_experiment.json");
    assert_eq!(of("half").variables, [CellAxis::Compile, CellAxis::Dtype]);
    let quantized = &plan.cells[7];
    assert_eq!((quantized.model.as_str(), plan.cells[1].model.as_str()), ("quantized", "base"));
    // The largest batch has three others.
    assert_eq!((plan.prompt.neighbours, plan.repetitions, plan.decode), (3, 2, 30));
    let launch = Program { path: "mantissa".into(), threads: None }.launch(
        &plan,
        quantized,
        "spec.json".as_ref(),
        "out".as_ref(),
    );
    assert_eq!(launch.program, "plans/envs/other/bin/python");
    let libraries = launch.environment["LD_LIBRARY_PATH"].to_string_lossy().into_owned();
    assert!(libraries.starts_with("plans/cublas"), "{libraries}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    // What is written, what instead, where the fault is (empty for the whole file), what is said.
    let wrong = [
        (
            "batch_size = [1, 2, 4]",
            "batch_sizes = [1, 2, 4]",
            "batch_sizes",
            "there is no axis 'batch_sizes'; use batch_size",
        ),
        (
            "[1, 2, 4]",
            "[1, \"two\", 4]",
            "\"two\"",
            "batch_size cannot be two; use a whole number from 1 to 1024",
        ),
        ("[1, 2, 4]", "[]", "[]\n", "batch_size has no values; list one or more"),
        (
            "\"sdpa_math\"]",
            "\"sdpa_maths\"]",
            "\"sdpa_maths\"",
            "attention cannot be sdpa_maths; use one of eager, sdpa",
        ),
        (
            "[\"awq\"]",
            "[\"gptq\"]",
            "\"gptq\"",
            "cannot be gptq; use one of none, awq, or name it in [models]",
        ),
        (
            "[\"other\"]",
            "[\"cu118\"]",
            "\"cu118\"",
            "cannot be cu118; use one of default, other, or name it in [stack]",
        ),
        ("vary.compile = [true]", "vary.compile = [1]", "1]\n", "compile cannot be 1; use true or false"),
        (
            "vary.compile = [true]",
            "vary.ep_size = [2]",
            "ep_size",
            "transformers cannot set ep_size; it sets batch_size",
        ),
        (
            "\"transformers\"",
            "\"transfomers\"",
            "\"transfomers\"",
            "no backend 'transfomers'; use one of mantissa",
        ),
        ("model = \"base\"", "", "[base]", "[base] has no model; name a folder"),
        (
            "name = \"grid\"",
            "name = \"batch_size\"",
            "\"batch_size\"\nvary.batch_size = [2",
            "there are two 'batch_size'; rename one",
        ),
        ("name = \"grid\"", "name = \"a b\"", "\"a b\"", "'a b' cannot name an experiment"),
        ("tokens = 40", "tokens = 0", "0\n\n[models]", "a prompt of 0 tokens is none"),
        ("tokens = 40", "token = 40", "token = ", "unknown field `token`"),
        ("repetitions = 2", "repetitions = 0", "0\n\n[base]", "repetitions cannot be 0"),
        ("[\"a.txt\", \"b.txt\"]", "[]", "[]", "there are no documents"),
        ("name = \"several\"", "", "", "missing field `name`"),
        ("[models]", "[models", "", "docs/run.md has the form of a plan"),
    ];
    for (right, other, place, said) in wrong {
        assert!(PLAN.contains(right), "{right}");
        let text = PLAN.replacen(right, other, 1);
        let error = parse(&text).expect_err(other);
        let found = error.to_string();
        assert!(found.starts_with("plans/p.toml") && found.contains(said), "{other}: {found}");
        assert!(!found.contains('\n') && found.contains("; "), "{found}");
        if !place.is_empty() {
            let before = &text[..text.find(place).expect(place)];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, str::len) + 1;
            assert_eq!(error.place(), Some([line, column]), "{other}: {found}");
        }
    }
    let nothing = format!("{PLAN}\n[[experiment]]\nname = \"same\"\n");
    assert!(parse(&nothing).unwrap_err().to_string().contains("differs from the reference in nothing"));
    let missing = Plan::read("no/such/plan.toml".as_ref()).unwrap_err();
    assert!(missing.place().is_none() && missing.to_string().contains("cannot be read"), "{missing}");
}

#[test]
fn own_cells_are_flags_of_record() {
    let text = PLAN.replace("\"transformers\"", "\"mantissa\"").replace("vary.stack = [\"other\"]\n", "");
    let text = text.replace(
        "set.dtype = \"f16\"\nvary.compile = [true]",
        "vary.padding = [\"left:3\"]\nset.hardware = \"h200\"",
    );
    let plan = parse(&text.replace("\"sdpa_math\"]", "\"sdpa\"]").replace("\"eager\", ", "")).unwrap();
    let cell = plan.cells.iter().find(|cell| cell.id == "hardware_h200-padding_left-3").unwrap();
    let launch = Program { path: "mantissa".into(), threads: Some(2) }.launch(
        &plan,
        cell,
        "s".as_ref(),
        "out".as_ref(),
    );
    let words: Vec<&str> = launch.arguments.iter().filter_map(|word| word.to_str()).collect();
    for word in [
        "record",
        "--padding=left:3",
        "--hardware=h200",
        "--positions=-3,-2,-1",
        "--reps=2",
        "--threads=2",
        "--no-generation-config",
    ] {
        assert!(words.contains(&word), "{word}: {words:?}");
    }
    assert!(!words.iter().any(|word| word.starts_with("--quantization=awq")), "{words:?}");
}

/// The plans that are shipped, and what they run.
#[test]
fn shipped_plans_are_plans() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans");
    let cells =
        |name: &str| Plan::read(&folder.join(name)).unwrap_or_else(|error| panic!("{error}")).cells.len();
    assert_eq!(["laptop.toml", "single-gpu.toml", "founding.toml"].map(cells), [6, 8, 13]);
    let shipped = std::fs::read_dir(&folder).expect("plans");
    assert_eq!(shipped.count(), 3, "every plan is tested");
}
