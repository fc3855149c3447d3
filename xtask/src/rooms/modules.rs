//! The tree of modules of one crate: which file defines which name, and what each module brings into scope.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use syn::visit::Visit;
use syn::{Attribute, Item, ItemUse, Meta, UseTree, Visibility};

/// All modules of a crate; the first is its root.
pub(crate) struct Modules {
    pub(crate) all: Vec<Module>,
}

/// A module: a file, or a `mod … { }` inside one.
pub(crate) struct Module {
    pub(crate) file: String,
    pub(crate) parent: Option<usize>,
    /// Declared `pub`, so that other crates see it where they see its parent.
    pub(crate) public: bool,
    pub(crate) children: BTreeMap<String, usize>,
    /// Names that it defines, modules aside.
    defined: Vec<String>,
    pub(crate) imports: Vec<Import>,
    pub(crate) items: Vec<Item>,
}

/// One name of a `use`; a glob has the name `*`.
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    /// Visible to others, so that it may be no more than a re-export.
    pub(crate) shown: bool,
    /// Visible to other crates.
    pub(crate) public: bool,
    pub(crate) line: usize,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

/// Reads a crate from its root file.
pub(crate) fn read(files: &BTreeMap<String, String>, root: &str) -> Result<Modules> {
    let mut modules = Modules { all: Vec::new() };
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    modules.file(files, root, folder, None)?;
    Ok(modules)
}

/// Whether an item exists in tests only.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if attribute.path().is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test")
        }
        _ => false,
    })
}

impl Modules {
    /// `folder` is where the files of its child modules lie.
    fn file(
        &mut self,
        files: &BTreeMap<String, String>,
        path: &str,
        folder: &str,
        parent: Option<usize>,
    ) -> Result<usize> {
        let text = files.get(path).with_context(|| format!("{path} is missing"))?;
        let parsed = syn::parse_file(text).with_context(|| format!("parsing {path}"))?;
        self.module(files, path, folder, parent, parsed.items)
    }

    fn module(
        &mut self,
        files: &BTreeMap<String, String>,
        path: &str,
        folder: &str,
        parent: Option<usize>,
        items: Vec<Item>,
    ) -> Result<usize> {
        let at = self.all.len();
        self.all.push(Module {
            file: path.to_owned(),
            parent,
            public: parent.is_none(),
            children: BTreeMap::new(),
            defined: Vec::new(),
            imports: Vec::new(),
            items: Vec::new(),
        });
        for item in items.into_iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let public = matches!(module.vis, Visibility::Public(_));
                    let inner = format!("{folder}/{name}");
                    let child = if let Some((_, items)) = module.content {
                        self.module(files, path, &inner, Some(at), items)?
                    } else {
                        let beside = format!("{inner}.rs");
                        let inside = format!("{inner}/mod.rs");
                        let file = if files.contains_key(&beside) { beside } else { inside };
                        self.file(files, &file, &inner, Some(at))?
                    };
                    self.all[child].public = public;
                    self.all[at].children.insert(name, child);
                }
                item => {
                    let mut found = Imports { all: Vec::new(), public: false };
                    found.visit_item(&item);
                    self.all[at].imports.extend(found.all);
                    self.all[at].defined.extend(name(&item));
                    self.all[at].items.push(item);
                }
            }
        }
        Ok(at)
    }

    /// Where a path leads, as seen from a module: nowhere if it leaves the crate or names a local.
    pub(crate) fn resolve(&self, from: usize, path: &[String]) -> Option<Place> {
        self.follow(from, path, 0)
    }

    fn follow(&self, from: usize, path: &[String], depth: usize) -> Option<Place> {
        if depth > 24 {
            return None;
        }
        let (first, mut rest) = path.split_first()?;
        let mut place = match first.as_str() {
            "crate" => Place::Module(0),
            "self" => Place::Module(from),
            "super" => Place::Module(self.all[from].parent?),
            name => self.lookup(from, name, rest.is_empty(), depth)?,
        };
        while let (Place::Module(module), Some((next, after))) = (place, rest.split_first()) {
            place = match next.as_str() {
                "super" => Place::Module(self.all[module].parent?),
                // A name that no item shows is made by a macro of that module.
                name => self.lookup(module, name, after.is_empty(), depth).unwrap_or(Place::Item(module)),
            };
            rest = after;
        }
        Some(place)
    }

    /// A name in a module. The last name of a path is rather an item, one before it rather a module.
    fn lookup(&self, at: usize, name: &str, last: bool, depth: usize) -> Option<Place> {
        let module = &self.all[at];
        let child = module.children.get(name).map(|child| Place::Module(*child));
        if child.is_some() && !last {
            return child;
        }
        if module.defined.iter().any(|defined| defined == name) {
            return Some(Place::Item(at));
        }
        let named = module.imports.iter().filter(|import| import.name == name && import.path != [name]);
        let globs = module.imports.iter().filter(|import| import.name == "*");
        let imported = named.filter_map(|import| self.follow(at, &import.path, depth + 1));
        let globbed = globs.filter_map(|glob| match self.follow(at, &glob.path, depth + 1)? {
            Place::Module(other) if other != at => self.lookup(other, name, last, depth + 1),
            _ => None,
        });
        imported.chain(globbed).next().or(child)
    }
}

pub(crate) fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Every `use` of an item, those inside functions too.
struct Imports {
    all: Vec<Import>,
    /// Whether the `use` that is read is `pub`.
    public: bool,
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let shown = !matches!(item.vis, Visibility::Inherited);
        self.public = matches!(item.vis, Visibility::Public(_));
        self.tree(&item.tree, Vec::new(), shown);
    }
}

impl Imports {
    fn tree(&mut self, tree: &UseTree, mut path: Vec<String>, shown: bool) {
        let (name, ident) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.tree(&tree.tree, path, shown);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.tree(tree, path.clone(), shown));
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                let name = "*".to_owned();
                return self.all.push(Import { name, path, shown, public: self.public, line });
            }
            UseTree::Name(tree) => (tree.ident.to_string(), &tree.ident),
            UseTree::Rename(tree) => (tree.rename.to_string(), &tree.ident),
        };
        let line = ident.span().start().line;
        let own = ident == "self";
        if !own {
            path.push(ident.to_string());
        }
        let name = if own && name == "self" { path.last().cloned().unwrap_or_default() } else { name };
        self.all.push(Import { name, path, shown, public: self.public, line });
    }
}
