//! Whether the public entries of the library crates have an example that `cargo test --doc` runs.
//!
//! Entries are functions, structs, enums, unions and traits that other crates can name: what `lib.rs` and its public
//! modules define or re-export. An example is a block of Rust in the documentation of the function, of the type, or
//! of one of its public methods. A type that is no more than a part of another says where it is shown, in a line
//! `Example: [`Owner`].`, and that owner has an example of its own. The link is read as rustdoc reads it, from the
//! module where it stands.
//!
//! Left out: constants, type aliases, single methods, names that come from other crates, and links through a name
//! that a `use` has changed, which are refused.

mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::{Attribute, Expr, ImplItem, Item, ItemImpl, Lit, Meta, TraitItem, Type, Visibility};

use crate::rooms::modules::{self, Module, Modules, Place};
use crate::rooms::tracked;
use made::{Made, made};

/// The entries that have no example, a line each; nothing if all is in order.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = tracked(root)?;
    let roots: Vec<&String> = files.keys().filter(|path| room(path).is_some()).collect();
    if roots.is_empty() {
        bail!("no crates/NAME/src/lib.rs in {}; run this inside the repository", root.display());
    }
    let mut missing = Vec::new();
    for path in roots {
        missing.extend(missing_of(&files, path).with_context(|| format!("reading the crate of {path}"))?);
    }
    Ok(missing)
}

/// The name of a library crate, from the path of its root.
fn room(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/src/lib.rs").filter(|room| !room.contains('/'))
}

/// The entries of one crate that have no example, and why.
fn missing_of(files: &BTreeMap<String, String>, root: &str) -> Result<Vec<String>> {
    let modules = modules::read(files, root)?;
    let mut found = Entries { modules: &modules, seen: BTreeSet::new(), paths: BTreeMap::new() };
    found.module(0, room(root).unwrap_or(root))?;
    if found.paths.is_empty() {
        bail!("no public function and no public type in {root}");
    }
    let docs = docs(&modules);
    let mut missing = Vec::new();
    for (named, path) in &found.paths {
        let why = match docs.get(named) {
            None => "a macro puts it together, and what it says of it is not seen".to_owned(),
            Some(own) if own.hidden || own.own || !own.methods.is_empty() => continue,
            Some(Docs { elsewhere: None, .. }) => "no example".to_owned(),
            Some(Docs { elsewhere: Some(owner), .. }) if is_shown(&modules, &docs, named.0, owner) => {
                continue;
            }
            Some(Docs { elsewhere: Some(owner), .. }) => {
                format!("no example in this crate at `{owner}`, to which it points")
            }
        };
        missing.push(format!("{path}: {why}"));
    }
    missing.sort();
    Ok(missing)
}

/// Whether a link (`path::Type`, `path::Type::method`, `path::function`) that stands in a module leads to an example.
fn is_shown(modules: &Modules, docs: &BTreeMap<Named, Docs>, from: usize, link: &str) -> bool {
    let path: Vec<String> = link.trim_end_matches("()").split("::").map(str::to_owned).collect();
    let (item, method) = match path.as_slice() {
        [.., owner, method] if owner.starts_with(char::is_uppercase) => (owner, Some(method)),
        [.., item] => (item, None),
        [] => return false,
    };
    let Some(Place::Item(module)) = modules.resolve(from, &path) else { return false };
    let docs = docs.get(&(module, item.clone()));
    docs.is_some_and(|docs| method.map_or(docs.own, |method| docs.methods.contains(method)))
}

/// An item: the module that defines it, and its name there.
type Named = (usize, String);

/// What other crates can name.
struct Entries<'m> {
    modules: &'m Modules,
    /// Modules that were walked, each with the path by which it was reached.
    seen: BTreeSet<(usize, String)>,
    /// Item → its shortest path.
    paths: BTreeMap<Named, String>,
}

impl Entries<'_> {
    /// Everything public of a module that is itself public at this path.
    fn module(&mut self, at: usize, path: &str) -> Result<()> {
        if !self.seen.insert((at, path.to_owned())) {
            return Ok(());
        }
        let module = &self.modules.all[at];
        for (name, child) in module.children.iter().filter(|(_, child)| self.modules.all[**child].public) {
            self.module(*child, &format!("{path}::{name}"))?;
        }
        for item in module.items.iter().filter(|item| is_public(item)) {
            self.entry(at, modules::name(item).unwrap_or_default(), path, None);
        }
        for made in module.items.iter().flat_map(of_macro).filter(|made| made.public && made.method.is_none())
        {
            self.entry(at, made.name, path, None);
        }
        for import in module.imports.iter().filter(|import| import.public) {
            // What leads nowhere comes from another crate.
            match self.modules.resolve(at, &import.path) {
                Some(Place::Module(other)) if import.name == "*" => self.module(other, path)?,
                Some(Place::Module(other)) => self.module(other, &format!("{path}::{}", import.name))?,
                Some(Place::Item(_)) if import.name == "*" => {
                    bail!("a glob of an enum, {}", import.path.join("::"))
                }
                Some(Place::Item(other)) => {
                    let name = import.path.last().cloned().unwrap_or_default();
                    self.entry(other, name, path, Some(&import.name));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn entry(&mut self, module: usize, name: String, path: &str, renamed: Option<&str>) {
        let Module { items, imports, .. } = &self.modules.all[module];
        let of_name = |item: &&Item| modules::name(item).is_some_and(|defined| defined == name);
        let mut defined = items.iter().filter(of_name).peekable();
        let foreign = defined.peek().is_none() && imports.iter().any(|import| import.name == name);
        if foreign || defined.any(|item| !is_entry(item)) {
            return;
        }
        let path = format!("{path}::{}", renamed.unwrap_or(&name));
        let kept = self.paths.entry((module, name)).or_insert_with(|| path.clone());
        if path.len() < kept.len() {
            *kept = path;
        }
    }
}

fn of_macro(item: &Item) -> Vec<Made> {
    match item {
        Item::Macro(item) => made(item.mac.tokens.clone()),
        _ => Vec::new(),
    }
}

fn is_entry(item: &Item) -> bool {
    matches!(item, Item::Enum(_) | Item::Fn(_) | Item::Struct(_) | Item::Trait(_) | Item::Union(_))
}

fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Union(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

/// What the documentation of one item holds.
#[derive(Default)]
struct Docs {
    /// The item itself has an example.
    own: bool,
    /// Methods that have one.
    methods: BTreeSet<String>,
    /// The item to which it points instead.
    elsewhere: Option<String>,
    hidden: bool,
}

/// The documentation of every function and type of a crate.
fn docs(modules: &Modules) -> BTreeMap<Named, Docs> {
    let mut all: BTreeMap<Named, Docs> = BTreeMap::new();
    for (at, module) in modules.all.iter().enumerate() {
        for item in &module.items {
            if let Item::Impl(item) = item
                && let Some(own) = type_of(modules, at, item)
            {
                all.entry(own).or_default().methods.extend(methods(item));
            }
            for made in of_macro(item) {
                let docs = all.entry((at, made.name)).or_default();
                let shown = has_example(&made.text);
                match made.method {
                    Some(method) if shown && made.public => drop(docs.methods.insert(method)),
                    Some(_) => {}
                    None => {
                        docs.own |= shown;
                        docs.elsewhere = made.text.lines().find_map(pointed).or(docs.elsewhere.take());
                    }
                }
            }
            let Some(name) = modules::name(item).filter(|_| is_entry(item)) else { continue };
            let attributes = modules::attributes(item);
            let text = text(attributes);
            let docs = all.entry((at, name)).or_default();
            docs.own |= has_example(&text);
            docs.elsewhere = text.lines().find_map(pointed);
            docs.hidden |= attributes.iter().any(is_hidden);
            if let Item::Trait(item) = item {
                let functions = item.items.iter().filter_map(|one| match one {
                    TraitItem::Fn(one) => Some(one),
                    _ => None,
                });
                let shown = functions.filter(|one| has_example(&self::text(&one.attrs)));
                docs.methods.extend(shown.map(|one| one.sig.ident.to_string()));
            }
        }
    }
    all
}

/// Public methods of an `impl` that have an example.
fn methods(item: &ItemImpl) -> Vec<String> {
    let functions = item.items.iter().filter_map(|one| match one {
        ImplItem::Fn(one) if matches!(one.vis, Visibility::Public(_)) => Some(one),
        _ => None,
    });
    functions.filter(|one| has_example(&text(&one.attrs))).map(|one| one.sig.ident.to_string()).collect()
}

fn type_of(modules: &Modules, at: usize, item: &ItemImpl) -> Option<Named> {
    let Type::Path(path) = &*item.self_ty else { return None };
    let path: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    match modules.resolve(at, &path)? {
        Place::Item(module) => Some((module, path.last()?.clone())),
        Place::Module(_) => None,
    }
}

/// The lines of a documentation comment.
fn text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(line) => Some(line.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_hidden(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("doc") && list.tokens.to_string() == "hidden")
}

/// Whether a block of code is one that rustdoc compiles and runs. (`no_run` passes: what needs a GPU or a network.)
fn has_example(text: &str) -> bool {
    // Whether a block is open, and whether it is Rust.
    let mut block = None;
    for line in text.lines().map(str::trim) {
        let Some(kind) = line.strip_prefix("```") else {
            // A line of code: neither empty, nor a comment, nor only hidden set-up.
            if block == Some(true) && !line.is_empty() && !line.starts_with("//") && !line.starts_with('#') {
                return true;
            }
            continue;
        };
        let rust = |word: &str| matches!(word, "rust" | "no_run" | "should_panic" | "standalone_crate");
        let is_rust = kind.split(',').map(str::trim).all(|word| word.is_empty() || rust(word));
        block = if block.is_some() { None } else { Some(is_rust) };
    }
    false
}

/// Where a line `Example: [`item`].` or `Example: [`words`](item).` points.
fn pointed(line: &str) -> Option<String> {
    let (words, rest) = line.trim().strip_prefix("Example: [`")?.split_once("`]")?;
    let target = rest.strip_prefix('(').and_then(|rest| rest.rsplit_once(')')).map(|(target, _)| target);
    Some(target.unwrap_or(words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries without an example of a made-up crate `c`.
    fn missing(files: &[(&str, &str)]) -> Vec<String> {
        let named = |(name, text): &(&str, &str)| (format!("crates/c/src/{name}.rs"), (*text).to_owned());
        let files = files.iter().map(named).collect();
        missing_of(&files, "crates/c/src/lib.rs").expect("a crate")
    }

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        missing(files).iter().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
    }

    #[test]
    fn what_other_crates_can_name_needs_an_example() {
        let lib = ("lib", "mod a; pub mod b; pub use a::{Shown, inner as outer}; pub use other::Foreign;");
        let a = ("a", "pub struct Shown; pub fn inner() {} pub struct Hidden; pub(crate) fn own() {}");
        let b = (
            "b",
            "/// Words.\npub trait T {} pub enum E {} pub const C: u8 = 0; fn private() {} mod deeper;",
        );
        let deeper = ("b/deeper", "pub fn not_reached() {}");
        assert_eq!(names(&[lib, a, b, deeper]), ["c::Shown", "c::b::E", "c::b::T", "c::outer"]);
    }

    #[test]
    fn an_example_stands_on_the_item_or_on_a_public_method_in_any_file() {
        let lib = ("lib", "mod a; mod b; pub use a::*;");
        let a = (
            "a",
            "/// ```\n/// f();\n/// ```\npub fn f() {} pub struct A; pub struct B; #[doc(hidden)] pub fn g() {}",
        );
        let b = (
            "b",
            "use crate::A; impl A { /// ```\n/// A::new();\n/// ```\npub fn new() {} }
             impl crate::B { /// ```\n/// x();\n/// ```\nfn private() {} }",
        );
        assert_eq!(names(&[lib, a, b]), ["c::B"]);
    }

    #[test]
    fn text_and_ignored_code_are_no_examples() {
        for kind in ["text", "ignore", "rust,ignore", "json", "sh"] {
            assert!(!has_example(&format!("```{kind}\nx\n```")), "{kind}");
        }
        assert!(!has_example("```text\nx\n```\nand\n"));
        assert!(has_example("```text\nx\n```\n```\nx\n```"));
        assert!(has_example("```no_run\nx\n```"));
        for nothing in ["", "// words", "# hidden();"] {
            assert!(!has_example(&format!("```\n{nothing}\n```\nwords")), "{nothing}");
        }
    }

    #[test]
    fn a_part_may_point_to_its_owner_if_that_has_an_example() {
        let part = "/// A part.\n///\n/// Example: [`crate::Owner::new`].\npub struct Part;";
        let with = format!(
            "{part} pub struct Owner; impl Owner {{ /// ```\n/// x();\n/// ```\npub fn new() {{}} }}"
        );
        assert_eq!(names(&[("lib", &with)]), Vec::<String>::new());
        let without = format!("{part} /// ```\n/// x();\n/// ```\npub struct Owner;");
        let said = "c::Part: no example in this crate at `crate::Owner::new`, to which it points";
        assert_eq!(missing(&[("lib", &without)]), [said]);
    }

    #[test]
    fn a_link_leads_where_rustdoc_would_go() {
        let lib = ("lib", "pub mod a; pub mod b; pub use a::Shown as Renamed; pub use a::Bare;");
        let a =
            ("a", "/// ```\n/// x();\n/// ```\npub struct Shown; /// Example: [`Shown`].\npub struct Bare;");
        let b = |before: &str, link: &str| {
            let b = format!(
                "{before} /// Example: {link}.\npub struct Part; /// Example: [`Part`].\npub fn f() {{}}"
            );
            names(&[lib, a, ("b", &b)])
        };
        // `f` points to what only points on, which is always refused.
        let accepted = [
            ("", "[`super::a::Shown`]"),
            ("", "[`crate::a::Shown`]"),
            ("", "[`Shown`](super::a::Shown)"),
            ("use crate::a::Shown;", "[`Shown`]"),
            ("use super::a::*;", "[`Shown`]"),
            ("use crate::a;", "[`a::Shown`]"),
        ];
        for (before, link) in accepted {
            assert_eq!(b(before, link), ["c::b::f"], "{before} {link}");
        }
        let refused = [
            ("", "[`Shown`]"),
            ("", "[`crate::Shown`]"),
            ("", "[`crate::Bare`]"),
            ("", "[`crate::Renamed`]"),
            ("use other::Shown;", "[`Shown`]"),
            ("use other::a;", "[`a::Shown`]"),
            ("pub struct Shown;", "[`Shown`]"),
            ("mod a { pub struct Shown; }", "[`a::Shown`]"),
        ];
        for (before, link) in refused {
            assert!(b(before, link).contains(&"c::b::Part".to_owned()), "{before} {link}");
        }
    }

    #[test]
    fn what_macros_make_is_seen_or_told() {
        let a = "macro_rules! m { () => { /// ```\n/// x();\n/// ```\npub struct A; } } m!();";
        let b = "words! { /// Words.\npub enum B { C } pub(crate) enum D {} impl B { pub fn f() {} } }";
        let c = "words! { pub enum E { F } impl E { /// ```\n/// x();\n/// ```\npub fn f() {} } }";
        let lib = format!("mod x; pub use x::{{G, Foreign}}; {a} {b} {c}");
        let found = missing(&[("lib", &lib), ("x", "make!(G); pub use other::Foreign;")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "c::B: no example");
        assert!(found[1].starts_with("c::G: a macro"));
    }

    #[test]
    fn a_crate_without_entries_is_an_error() {
        let files = BTreeMap::from([("crates/c/src/lib.rs".to_owned(), "mod a {}".to_owned())]);
        assert!(missing_of(&files, "crates/c/src/lib.rs").is_err());
    }
}
