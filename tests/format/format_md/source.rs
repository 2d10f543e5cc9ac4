//! The sources of the engine, read for the document: tags, bodies, kinds and the comments on them.

use std::collections::BTreeMap;
use std::path::Path;

use ckptfs_tests::build;
use syn::{Attribute, Expr, ExprLit, ImplItem, Item, ItemImpl, Lit, Meta, TraitItem, Type, UseTree};

/// One source file.
pub struct File {
    path: String,
    text: String,
    syntax: syn::File,
    /// Its imports from the engine: each name, and the path of its module.
    imports: BTreeMap<String, Vec<String>>,
}

/// A record of the format.
pub struct Tagged<'a> {
    pub tag: String,
    pub doc: String,
    /// The name of its scope, if it is an attribute.
    pub scope: Option<String>,
    /// The struct around each body.
    pub around: Option<(&'a File, &'a Item)>,
    pub body: Option<(&'a File, &'a Item)>,
    /// The trait of its kinds.
    kind: Option<String>,
}

/// One kind of record under a tag.
pub struct Kind<'a> {
    pub name: String,
    pub doc: String,
    pub body: (&'a File, &'a Item),
}

/// All source files of the engine.
pub struct Engine(Vec<File>);

impl Engine {
    pub fn read(src: &Path) -> Engine {
        let mut files = Vec::new();
        for path in build::sources(src, &["rs"]) {
            let text = std::fs::read_to_string(&path).unwrap();
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut imports = BTreeMap::new();
            for item in &syntax.items {
                if let Item::Use(item) = item {
                    import(&item.tree, &[], &mut imports);
                }
            }
            let path = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
            files.push(File { path, text, syntax, imports });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Engine(files)
    }

    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    pub fn file(&self, path: &str) -> &File {
        self.0.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("there is no dumper/src/{path}"))
    }

    /// The struct, enum or alias that `name` means in `file`. `None`: the engine does not define
    /// it.
    pub fn find<'a>(&'a self, file: &'a File, name: &str) -> Option<(&'a File, &'a Item)> {
        let here = file.syntax.items.iter().find(|item| matches!(name_of(item), Some(it) if it == name));
        here.map(|item| (file, item)).or_else(|| {
            let modules = file.imports.get(name)?.join("/");
            let is_it = |other: &&File| [format!("{modules}.rs"), format!("{modules}/mod.rs")].contains(&other.path);
            self.find(self.0.iter().find(is_it)?, name)
        })
    }

    /// Every record that a file defines.
    pub fn tagged<'a>(&'a self, file: &'a File) -> Vec<Tagged<'a>> {
        let mut found = Vec::new();
        for item in &file.syntax.items {
            match item {
                Item::Const(item) => {
                    let Some(tag) = tag_of(&item.expr) else { continue };
                    let made = file.impls().find(|it| is_tagged_by(it, &item.ident.to_string()));
                    found.push(self.record(file, tag, &item.attrs, made));
                }
                Item::Impl(made) => {
                    for item in &made.items {
                        if let ImplItem::Const(item) = item
                            && let Some(tag) = tag_of(&item.expr)
                        {
                            found.push(self.record(file, tag, &item.attrs, Some(made)));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// `made` is the table row of the record, if it has one.
    fn record<'a>(&'a self, file: &'a File, tag: String, attrs: &[Attribute], made: Option<&ItemImpl>) -> Tagged<'a> {
        let doc = doc(attrs).replace('\n', " ");
        assert!(!doc.is_empty(), "dumper/src/{}: a comment on the tag {tag} must say what the record holds", file.path);
        let (doc, body) = match doc.split_once("Body: [`") {
            Some((doc, body)) => (doc.trim().to_owned(), body.split('`').next().map(str::to_owned)),
            None => (doc, made.map(|made| body_of(file, made))),
        };
        let body = body.map(|name| {
            self.find(file, &name).unwrap_or_else(|| {
                panic!("dumper/src/{}: {tag} has the body {name}, which is no struct there", file.path)
            })
        });
        let scope = made.and_then(|made| constant(made, "SCOPE")).and_then(last_segment);
        let kind = file.trait_of_kinds();
        // The struct around a body is in the file of the table row's trait, or of the trait of the
        // kinds.
        let traits = made.and_then(|made| self.trait_of(file, made)).or(kind.as_ref().map(|_| file));
        let around = traits.and_then(|file| Some((file, file.around()?)));
        let record = Tagged { tag, doc, scope, around, body, kind };
        assert!(
            record.body.is_some() || record.kind.is_some(),
            "dumper/src/{}: the comment on the tag {} must end in: Body: [`NAME`].",
            file.path,
            record.tag
        );
        record
    }

    /// The file that defines the trait of an impl.
    fn trait_of<'a>(&'a self, file: &'a File, made: &ItemImpl) -> Option<&'a File> {
        let name = made.trait_.as_ref()?.1.segments.last()?.ident.to_string();
        Some(self.find(file, &name)?.0)
    }

    /// The kinds of records that have this tag.
    pub fn kinds(&self, tagged: &Tagged<'_>) -> Vec<Kind<'_>> {
        let Some(kind) = &tagged.kind else { return Vec::new() };
        let mut found = Vec::new();
        for file in &self.0 {
            for made in file.impls().filter(|made| is_of(made, kind)) {
                let Some(Expr::Lit(ExprLit { lit: Lit::Str(name), .. })) = constant(made, "KIND") else { continue };
                let body = body_of(file, made);
                let body = self.find(file, &body).unwrap_or_else(|| panic!("dumper/src/{}: {body}", file.path));
                let first = file.module_doc().split("\n\n").next().unwrap_or_default().to_owned();
                found.push(Kind { name: name.value(), doc: first, body });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The comment on a scope of attributes.
    pub fn scope(&self, name: &str) -> String {
        let (_, item) = self.find(self.file("kind/attribute.rs"), "Scope").expect("Scope in kind/attribute.rs");
        let Item::Enum(item) = item else { panic!("Scope is an enum") };
        let variant = item.variants.iter().find(|variant| variant.ident == name).unwrap();
        doc(&variant.attrs)
    }
}

impl File {
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn module_doc(&self) -> String {
        doc(&self.syntax.attrs)
    }

    /// The value of a constant, and the comment on it.
    pub fn number(&self, name: &str) -> (u64, String) {
        let items = self.syntax.items.iter();
        let mut constants = items.filter_map(|item| if let Item::Const(it) = item { Some(it) } else { None });
        let item = constants.find(|item| item.ident == name).unwrap_or_else(|| panic!("{}: {name}", self.path));
        (value(&item.expr), doc(&item.attrs))
    }

    /// Whether pages follow a record of this file.
    pub fn opens_pages(&self) -> bool {
        self.code().contains(".opens_pages()")
    }

    /// All tags, in whatever form they are written.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.code().split(": Tag = Tag(*b\"").skip(1).filter_map(|rest| rest.get(..4))
    }

    /// The trait that its kinds implement. It has the constant `KIND`.
    fn trait_of_kinds(&self) -> Option<String> {
        let names_itself = |item: &TraitItem| matches!(item, TraitItem::Const(it) if it.ident == "KIND");
        self.syntax.items.iter().find_map(|item| match item {
            Item::Trait(it) if it.items.iter().any(names_itself) => Some(it.ident.to_string()),
            _ => None,
        })
    }

    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    fn impls(&self) -> impl Iterator<Item = &ItemImpl> {
        self.syntax.items.iter().filter_map(|item| if let Item::Impl(it) = item { Some(it) } else { None })
    }

    /// The generic struct around each body.
    fn around(&self) -> Option<&Item> {
        self.syntax.items.iter().find(|item| {
            matches!(item, Item::Struct(it) if derives_serialize(&it.attrs) && it.generics.type_params().next().is_some())
        })
    }
}

fn derives_serialize(attrs: &[Attribute]) -> bool {
    let list = |attr: &Attribute| if let Meta::List(list) = &attr.meta { Some(list.tokens.to_string()) } else { None };
    attrs.iter().any(|attr| attr.path().is_ident("derive") && list(attr).is_some_and(|it| it.contains("Serialize")))
}

/// The doc comment of an item.
pub fn doc(attrs: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attr in attrs {
        if let Meta::NameValue(pair) = &attr.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &pair.value
        {
            let line = line.value();
            lines.push(line.strip_prefix(' ').unwrap_or(&line).to_owned());
        }
    }
    lines.join("\n")
}

/// `use crate::a::b::{C, D}` as C -> [a, b], D -> [a, b].
fn import(tree: &UseTree, above: &[String], imports: &mut BTreeMap<String, Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            let above = match path.ident.to_string() {
                root if root == "crate" => Vec::new(),
                module => [above, &[module]].concat(),
            };
            import(&path.tree, &above, imports);
        }
        UseTree::Name(name) => drop(imports.insert(name.ident.to_string(), above.to_vec())),
        UseTree::Group(group) => group.items.iter().for_each(|item| import(item, above, imports)),
        UseTree::Rename(_) | UseTree::Glob(_) => {}
    }
}

fn name_of(item: &Item) -> Option<String> {
    match item {
        Item::Struct(it) => Some(it.ident.to_string()),
        Item::Enum(it) => Some(it.ident.to_string()),
        Item::Type(it) => Some(it.ident.to_string()),
        Item::Trait(it) => Some(it.ident.to_string()),
        _ => None,
    }
}

/// `Tag(*b"ABCD")`.
fn tag_of(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = expr else { return None };
    let is_tag = matches!(&*call.func, Expr::Path(path) if path.path.is_ident("Tag"));
    let Some(Expr::Unary(deref)) = call.args.first().filter(|_| is_tag) else { return None };
    let Expr::Lit(ExprLit { lit: Lit::ByteStr(bytes), .. }) = &*deref.expr else { return None };
    String::from_utf8(bytes.value()).ok()
}

/// A constant of an impl.
fn constant<'a>(made: &'a ItemImpl, name: &str) -> Option<&'a Expr> {
    made.items.iter().find_map(|item| match item {
        ImplItem::Const(item) if item.ident == name => Some(&item.expr),
        _ => None,
    })
}

fn is_tagged_by(made: &ItemImpl, constant_above: &str) -> bool {
    constant(made, "TAG").and_then(last_segment).is_some_and(|name| name == constant_above)
}

fn is_of(made: &ItemImpl, name: &str) -> bool {
    made.trait_.as_ref().is_some_and(|(_, path, _)| path.segments.last().is_some_and(|last| last.ident == name))
}

fn last_segment(expr: &Expr) -> Option<String> {
    let Expr::Path(path) = expr else { return None };
    Some(path.path.segments.last()?.ident.to_string())
}

/// The associated type Body.
fn body_of(file: &File, made: &ItemImpl) -> String {
    let body = made.items.iter().find_map(|item| match item {
        ImplItem::Type(item) if item.ident == "Body" => Some(&item.ty),
        _ => None,
    });
    match body {
        Some(Type::Path(path)) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        _ => panic!("dumper/src/{}: a record without a type Body", file.path),
    }
}

/// The value of a constant: a number, or a shifted number.
fn value(expr: &Expr) -> u64 {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().unwrap(),
        Expr::Binary(it) if matches!(it.op, syn::BinOp::Shl(_)) => value(&it.left) << value(&it.right),
        _ => panic!("a constant of the format is neither a number nor a shifted one"),
    }
}
