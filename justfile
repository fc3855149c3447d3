# Recipes for https://just.systems (`pip install rust-just`). Nothing below is needed to build, test or use Mantissa;
# docs/testing.md says what each slow suite shows.

python := "target/venv/bin/python"

# List the recipes
default:
    @just --list --unsorted

# What a pull request must pass
ci:
    .ci/run

# All fast tests, as in the README
test:
    cargo test --workspace

# Format, then lint
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, bans, duplicates, sources
deny:
    .ci/run deny

# Known vulnerabilities of dependencies (fetches the RustSec database)
advisories: deny
    PATH="$PWD/target/ci-tools/bin:$PATH" cargo-deny --locked check advisories

# API documentation
docs:
    .ci/run docs

# The demo, with the optimized binary
demo *FLAGS:
    cargo run --release -p mantissa-cli -- demo {{FLAGS}}

# Accept what the command line now prints (look at the diff before committing)
snapshots:
    INSTA_UPDATE=always cargo test -p mantissa-cli
    git diff --stat -- crates/cli/tests/cli/snapshots

# Write the JSON Schemas of docs/format anew
schemas:
    MANTISSA_UPDATE=1 cargo test -p mantissa-evidence schemas
    MANTISSA_UPDATE=1 cargo test -p mantissa-report schema

# Pages of every verb in headless Chromium (`apt-get install chromium`, or CHROMIUM=PATH); screenshots in target/shots
browser:
    rm -rf target/shots
    cargo run -q -p mantissa-report --example page -- pages target/shots
    python3 crates/report/tests/browser/drive.py target/shots/*.html --shots target/shots

# Matrix products of an H200 against the recipes that dispatch names (FILE: outputs of cuBLAS, which are not in the repository)
check-gemm FILE="../shared/measured/h200_cublas13.1_gemm.npz":
    cargo run --release -q -p xtask -- check-gemm {{FILE}}

# Predictions that were compared with a GPU, made again on this machine: GPU is h200 or h100, PATTERN picks cases ("" is all: hours)
gpu-goldens GPU="h200" PATTERN=":29r:":
    cargo build --release -q -p mantissa-cli
    mkdir -p target/gpu-goldens
    python3 goldens/gpu/repeat.py target/release/mantissa target/gpu-goldens goldens/gpu/{{GPU}}_transformers.json "{{PATTERN}}"

# Every product of two bf16 through an emulated tensor-core step, alone and beside an accumulator, on every instruction set
exhaustive-products:
    cargo test --release -p mantissa-numerics --lib -- --ignored --nocapture exhaustive_products

# One fuzz target for a while (ten minutes unless said otherwise); needs `cargo install cargo-fuzz`
fuzz TARGET SECONDS="600":
    mkdir -p fuzz/corpus/{{TARGET}}
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} corpus/{{TARGET}} \
        $(ls -d seeds/{{TARGET}} 2>/dev/null) -- -max_total_time={{SECONDS}} -timeout=10 -rss_limit_mb=2048

# Every fuzz target, ten minutes each
fuzz-all SECONDS="600":
    for target in $(cd fuzz && cargo fuzz list); do just fuzz "$target" {{SECONDS}} || exit 1; done

# Python as a reader of our files: safetensors opens containers, jsonschema validates, JSON and container agree
python-container *RECORDS: _python
    #!/usr/bin/env bash
    set -euo pipefail
    {{python}} -m pip install --quiet safetensors numpy ml_dtypes jsonschema
    cargo build --release -p mantissa-cli
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    records=({{RECORDS}})
    if ((${#records[@]} == 0)); then
        target/release/mantissa demo --out "$work/demo" >/dev/null
        mapfile -t records < <(find "$work/demo" fixtures/evidence -name manifest.json -exec dirname {} \;)
    fi
    for record in "${records[@]}"; do
        target/release/mantissa convert "$record" "$work/record.json" --force
        {{python}} docs/format/validate.py "$record" "$work/record.json"
        {{python}} docs/format/read_container.py "$record" "$work/record.json"
    done

# The Python package's tests: PYTHON is one with torch and transformers (and, for a few, peft, bitsandbytes, jsonschema)
python PYTHON="python3" *TESTS:
    cargo build -p mantissa-cli
    cd python && {{PYTHON}} -m unittest {{ if TESTS == "" { "discover -t . -s tests" } else { TESTS } }}

# `mantissa drift` on honest recipes and planted bugs (PYTHON as above); the table is target/drift-suite.md
drift-suite PYTHON="python3" SEED="1" *FLAGS:
    cargo build --release -p mantissa-cli
    MANTISSA="$PWD/target/release/mantissa" {{PYTHON}} -m unittest discover goldens/drift
    {{PYTHON}} goldens/drift/suite.py --mantissa target/release/mantissa --seed {{SEED}} \
        --out target/drift-suite.md {{FLAGS}}

# A prebuilt archive in target/archive: the program, manual pages, completions, licences, and its checksum
archive:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --locked -p mantissa-cli
    bin=$(realpath "${CARGO_TARGET_DIR:-target}")/release/mantissa
    name=mantissa-$("$bin" --version | cut -d' ' -f2)-$(rustc -vV | sed -n 's/^host: //p')
    out=target/archive/$name
    rm -rf "$out" && mkdir -p "$out/man/man1" "$out/completions"
    install -m 755 -s "$bin" "$out/mantissa"
    cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$out"
    "$bin" --quiet man --out "$out/man/man1"
    for shell in bash zsh fish; do "$bin" completions "$shell" >"$out/completions/mantissa.$shell"; done
    # The same files give the same bytes.
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C target/archive -cf - "$name" |
        gzip -n9 >"$out.tar.gz"
    (cd target/archive && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")

# The wheel: what is in it, and a fresh virtual environment (release build; `pip install maturin`, PyPI)
python-wheel *FLAGS: _python
    {{python}} -m pip install --quiet maturin
    {{python}} python/tests/wheel.py --maturin "$PWD/target/venv/bin/maturin" {{FLAGS}}

# Speed beside llama.cpp: LLAMA_BUILD is its build folder, MODEL a GGUF file
peer LLAMA_BUILD MODEL:
    benches/peers/llama_cpp.sh {{LLAMA_BUILD}} {{MODEL}}

# Kernel and model benches
bench *FLAGS:
    cargo bench --workspace {{FLAGS}}

# Honest and altered records by the thousand: verification contradicts none of the first and all of the second
critics *FLAGS:
    cargo run -q -p mantissa-lab --example critics -- {{FLAGS}}

# The slow simulations of the statistics (rates of 1 in 1,000 over two million trials, coverage as documented)
simulate:
    cargo test -p mantissa-verdict --test verdict simulation -- --include-ignored

# The goldens of transformers, made again (torch: a gigabyte) and compared with the committed ones
goldens-transformers: _python
    #!/usr/bin/env bash
    set -euo pipefail
    {{python}} -m pip install --quiet torch transformers numpy
    cargo build --release -p mantissa-cli
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for arch in llama qwen2 qwen3 qwen3_moe mistral mixtral olmo2 phi3 gemma2 gemma3_text gpt_oss deepseek_v2; do
        target/release/mantissa synth --arch $arch --seed 1 --out "$work/models/$arch" >/dev/null
    done
    {{python}} goldens/transformers_f32.py --out "$work/transformers_f32.json" --variants cpu:float64,cpu:float32 \
        --against goldens/transformers_f32.json "$work"/models/*

_python:
    @[ -x {{python}} ] || python3 -m venv target/venv
