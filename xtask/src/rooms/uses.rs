//! Which file uses what of which file: every path, also inside macros and attributes.
//!
//! A `mod` and a re-export use nothing; who uses a re-exported name uses the file that defines it. Left out: methods,
//! unless they are called on `self` or by the type's name and stand in another file than the type.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprMethodCall, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, Macro, Pat, PatIdent,
};
use syn::{Path, Type, VisRestricted};

use super::modules::{Modules, Place, is_test};

/// (user, used) → the names, each with the first line that has it.
pub(crate) type Uses = BTreeMap<(String, String), BTreeMap<String, usize>>;

/// All uses between the files of a crate.
pub(crate) fn uses(modules: &Modules) -> Uses {
    let mut found =
        Finder { modules, at: 0, own: None, apart: BTreeMap::new(), locals: Vec::new(), uses: Uses::new() };
    found.apart = found.methods_apart();
    for (at, module) in modules.all.iter().enumerate() {
        found.at = at;
        for import in module.imports.iter().filter(|import| !import.shown && import.name != "*") {
            found.path(&import.path, import.line);
        }
        for item in module.items.iter().filter(|item| !matches!(item, Item::Use(_))) {
            found.visit_item(item);
        }
    }
    found.uses
}

/// A type: the module that defines it, and its name.
type Named = (usize, String);

struct Finder<'m> {
    modules: &'m Modules,
    /// The module that is read.
    at: usize,
    /// The type of the `impl` that is read.
    own: Option<Named>,
    /// Methods that stand in another file than their type → the module of that file.
    apart: BTreeMap<(Named, String), usize>,
    /// Names bound in the function that is read.
    locals: Vec<BTreeSet<String>>,
    uses: Uses,
}

impl Finder<'_> {
    fn methods_apart(&mut self) -> BTreeMap<(Named, String), usize> {
        let mut apart = BTreeMap::new();
        for (at, module) in self.modules.all.iter().enumerate() {
            self.at = at;
            for item in &module.items {
                let Item::Impl(item) = item else { continue };
                let Some(own) = self.type_of(item).filter(|_| item.trait_.is_none()) else { continue };
                if self.modules.all[own.0].file == module.file {
                    continue;
                }
                for method in &item.items {
                    if let ImplItem::Fn(method) = method {
                        apart.insert((own.clone(), method.sig.ident.to_string()), at);
                    }
                }
            }
        }
        apart
    }

    fn type_of(&self, item: &ItemImpl) -> Option<Named> {
        let Type::Path(path) = &*item.self_ty else { return None };
        let path = segments(&path.path);
        match self.modules.resolve(self.at, &path)? {
            Place::Item(module) => Some((module, path.last()?.clone())),
            Place::Module(_) => None,
        }
    }

    fn edge(&mut self, module: usize, name: &str, line: usize) {
        let (from, to) = (&self.modules.all[self.at].file, &self.modules.all[module].file);
        if from != to {
            let names = self.uses.entry((from.clone(), to.clone())).or_default();
            names.entry(name.to_owned()).or_insert(line);
        }
    }

    fn path(&mut self, path: &[String], line: usize) {
        let is_local = |name: &String| self.locals.iter().any(|names| names.contains(name));
        if path.first().is_some_and(|first| path.len() == 1 && is_local(first)) {
            return;
        }
        if let [first, method] = path
            && first == "Self"
        {
            return self.method(method, line);
        }
        if let Some(Place::Item(module)) = self.modules.resolve(self.at, path) {
            self.edge(module, &path.join("::"), line);
        }
        if let [prefix @ .., method] = path
            && let (Some(Place::Item(module)), Some(name)) =
                (self.modules.resolve(self.at, prefix), prefix.last())
            && let Some(other) = self.apart.get(&((module, name.clone()), method.clone()))
        {
            self.edge(*other, &path.join("::"), line);
        }
    }

    /// A method of the type whose `impl` is read.
    fn method(&mut self, method: &str, line: usize) {
        let key = self.own.clone().map(|own| (own, method.to_owned()));
        if let Some(module) = key.and_then(|key| self.apart.get(&key).copied()) {
            self.edge(module, &format!("Self::{method}"), line);
        }
    }

    /// Paths among tokens that were not parsed: bodies of macros, attributes.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, sign: char| matches!(tokens.get(at), Some(TokenTree::Punct(one)) if one.as_char() == sign);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.quoted(&literal.to_string(), literal.span().start().line),
                TokenTree::Ident(first) => {
                    let (after_dot, line) = (at > 0 && is(at - 1, '.'), first.span().start().line);
                    let own = at >= 2
                        && after_dot
                        && matches!(&tokens[at - 2], TokenTree::Ident(one) if one == "self");
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':') && is(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        path.push(next.to_string());
                        at += 3;
                    }
                    let is_key =
                        path.len() == 1 && (is(at + 1, ':') || (is(at + 1, '=') && !is(at + 2, '=')));
                    if own {
                        self.method(&path[0], line);
                    } else if !after_dot && !is_key {
                        self.path(&path, line);
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }

    /// A path in quotes, as serde has it: `with = "crate::hex"`.
    fn quoted(&mut self, literal: &str, line: usize) {
        let text = literal.trim_matches('"');
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|sign| sign.is_alphanumeric() || sign == '_');
        if text.len() + 2 == literal.len() && text.contains("::") && text.split("::").all(is_name) {
            self.path(&text.split("::").map(str::to_owned).collect::<Vec<_>>(), line);
        }
    }

    fn function(&mut self, names: Locals, inside: impl FnOnce(&mut Self)) {
        self.locals.push(names.0);
        inside(self);
        self.locals.pop();
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        // A `use` inside a function was read with its module.
        if !matches!(item, Item::Use(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let outer = self.own.take();
        self.own = self.type_of(item);
        visit::visit_item_impl(self, item);
        self.own = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let mut names = Locals::default();
        names.visit_item_fn(item);
        self.function(names, |finder| visit::visit_item_fn(finder, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        let mut names = Locals::default();
        names.visit_impl_item_fn(item);
        self.function(names, |finder| visit::visit_impl_item_fn(finder, item));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.path(&segments(path), line);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if matches!(&*call.receiver, Expr::Path(path) if path.path.is_ident("self")) {
            self.method(&call.method.to_string(), call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(list.tokens.clone()),
            syn::Meta::Path(_) | syn::Meta::NameValue(_) => {}
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        visit::visit_path(self, &called.path);
        self.path(&segments(&called.path), 0);
        self.tokens(called.tokens.clone());
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

/// Names that the patterns of a function bind.
#[derive(Default)]
struct Locals(BTreeSet<String>);

impl<'ast> Visit<'ast> for Locals {
    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        self.0.insert(pattern.ident.to_string());
        if let Some((_, inner)) = &pattern.subpat {
            self.visit_pat(inner);
        }
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        visit::visit_pat(self, pattern);
    }
}

fn segments(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::circles::circles;
    use super::super::modules::read;
    use super::*;

    /// The circles of a made-up crate, as lists of file names.
    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files =
            files.iter().map(|(name, text)| (format!("c/src/{name}.rs"), (*text).to_owned())).collect();
        let modules = read(&files, "c/src/lib.rs").expect("a crate");
        let circles = circles(&uses(&modules));
        let short = |file: String| file["c/src/".len()..file.len() - 3].to_owned();
        circles.iter().map(|circle| circle.files().into_iter().map(short).collect()).collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let a = ("a", "use crate::b::B; pub struct A(B);");
        for b in [
            "pub struct B; use crate::a::A;",
            "pub struct B; fn f() { let _ = crate::a::A::new(); }",
            "pub struct B; fn f(_: &super::a::A) {}",
            "pub struct B; fn f() { assert!(crate::a::A::new().is(), \"no\"); }",
            "#[serde(with = \"crate::a::A\")] pub struct B;",
            "use super::*; pub struct B; fn f(_: a::A) {}",
            "pub struct B; mod inner { use super::super::a::A; }",
            "pub struct B; fn f() { use crate::a; a::g(); }",
        ] {
            assert_eq!(found(&[("lib", "mod a; mod b;"), a, ("b", b)]), [["a", "b"]], "{b}");
        }
    }

    #[test]
    fn uses_one_way_are_none() {
        let b = "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }";
        assert!(
            found(&[("lib", "mod a; mod b;"), ("a", "use crate::b::B; pub struct A;"), ("b", b)]).is_empty()
        );
        let own = "pub(in crate::a) struct B; fn a() { let A = 1; }";
        assert!(
            found(&[("lib", "mod a; mod b;"), ("a", "use crate::b::B; pub struct A;"), ("b", own)])
                .is_empty()
        );
    }

    #[test]
    fn a_reexport_is_no_use_but_leads_to_the_file_that_defines() {
        let (a, b) = (("a", "use crate::B; pub struct A;"), ("b", "pub struct B;"));
        assert!(found(&[("lib", "mod a; mod b; pub use a::A; pub use b::B;"), a, b]).is_empty());
        let through = ("b", "pub struct B; use crate::A;");
        assert_eq!(found(&[("lib", "mod a; mod b; pub use a::*; pub use b::B;"), a, through]), [["a", "b"]]);
        // A parent that also uses what it shows is a user of its child.
        let parent = "mod a; pub use a::A; pub struct P(A);";
        assert_eq!(found(&[("lib", parent), ("a", "use crate::P; pub struct A;")]), [["a", "lib"]]);
    }

    #[test]
    fn a_method_in_another_file_than_its_type_is_seen() {
        let parent = "mod a; pub struct P; impl P { pub fn run(&self) { self.step(); } }";
        let child = "use super::P; impl P { pub(super) fn step(&self) {} }";
        assert_eq!(found(&[("lib", parent), ("a", child)]), [["a", "lib"]]);
    }

    #[test]
    fn a_circle_of_three_is_told_file_by_file() {
        let files = [
            ("c/src/lib.rs", "mod a; mod b; mod c;"),
            ("c/src/a.rs", "pub struct A(crate::b::B);"),
            ("c/src/b.rs", "pub struct B(crate::c::C);"),
            ("c/src/c.rs", "pub struct C(\n    Option<Box<crate::a::A>>,\n);"),
        ];
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let circles = circles(&uses(&read(&files, "c/src/lib.rs").expect("a crate")));
        assert_eq!(
            circles[0].told(false),
            "circle of 3 files: c/src/a.rs c/src/b.rs c/src/c.rs\n  \
               c/src/a.rs uses c/src/b.rs: crate::b::B (line 1)\n  \
               c/src/b.rs uses c/src/c.rs: crate::c::C (line 1)\n  \
               c/src/c.rs uses c/src/a.rs: crate::a::A (line 2)"
        );
    }
}
