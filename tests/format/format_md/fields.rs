//! The fields of a record's body as serde writes them in JSON.

use syn::{Attribute, Fields, GenericArgument, Item, ItemEnum, Meta, PathArguments, Type};

use super::source::{Engine, File, doc};

/// A row of the table.
#[derive(Clone)]
pub struct Field {
    /// `processes[].pid`.
    pub path: String,
    /// Its JSON type.
    pub sort: String,
    pub doc: String,
}

/// How JSON represents a type.
struct Shape<'a> {
    sort: String,
    /// What follows the name of the field: `[]` or nothing.
    suffix: &'static str,
    /// The struct whose fields are listed below it.
    inner: Option<(&'a File, &'a Fields)>,
    /// The meaning of each value.
    values: String,
}

/// The fields of a struct, and of the structs in it.
pub fn of(engine: &Engine, file: &File, item: &Item) -> Vec<Field> {
    let Item::Struct(item) = item else { panic!("dumper/src/{}: a body is a struct", file.path()) };
    let mut found = Vec::new();
    list(engine, file, &item.fields, "", &mut found);
    found
}

fn list(engine: &Engine, file: &File, fields: &Fields, above: &str, found: &mut Vec<Field>) {
    for field in fields {
        let serde = serde(&field.attrs);
        let says = |word: &str| serde.iter().any(|it| it.split(' ').next() == Some(word));
        // The type parameter of the struct around a body is the body, which is listed on its own.
        if says("skip") || says("flatten") && is_parameter(&field.ty) {
            continue;
        }
        let shape = shape(engine, file, &field.ty, &field.attrs);
        if says("flatten") {
            let (file, inner) = shape.inner.expect("what is flattened is a struct");
            list(engine, file, inner, above, found);
            continue;
        }
        let name = field.ident.as_ref().map(|ident| ident.to_string()).unwrap_or_default();
        let path = format!("{above}{}", renamed(&serde).unwrap_or(name));
        let missing = if says("default") || says("skip_serializing_if") { ", may be missing" } else { "" };
        let doc = [doc(&field.attrs), shape.values].join(" ");
        found.push(Field { path: path.clone(), sort: format!("{}{missing}", shape.sort), doc });
        if let Some((file, inner)) = shape.inner {
            list(engine, file, inner, &format!("{path}{}.", shape.suffix), found);
        }
    }
}

fn shape<'a>(engine: &'a Engine, file: &'a File, ty: &Type, attrs: &[Attribute]) -> Shape<'a> {
    let plain = |sort: String| Shape { sort, suffix: "", inner: None, values: String::new() };
    let of = |ty: &Type| shape(engine, file, ty, attrs);
    match ty {
        Type::Tuple(tuple) => {
            let parts: Vec<String> = tuple.elems.iter().map(|ty| of(ty).sort).collect();
            plain(format!("[{}]", parts.join(", ")))
        }
        Type::Array(array) => {
            let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(len), .. }) = &array.len else {
                panic!("dumper/src/{}: an array of a length that is no number", file.path())
            };
            let inner = of(&array.elem);
            Shape { sort: format!("array of {len} {}", plural(&inner.sort)), suffix: "[]", ..inner }
        }
        Type::Path(path) => {
            let last = path.path.segments.last().unwrap();
            let arguments = arguments(&last.arguments);
            match (last.ident.to_string().as_str(), arguments.as_slice()) {
                ("u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64", _) => plain("number".to_owned()),
                ("bool", _) => plain("boolean".to_owned()),
                ("String", _) => plain("string".to_owned()),
                ("Vec", [Type::Path(byte)]) if byte.path.is_ident("u8") => plain("bytes".to_owned()),
                ("Vec", [inner]) => {
                    let inner = of(inner);
                    Shape { sort: format!("array of {}", plural(&inner.sort)), suffix: "[]", ..inner }
                }
                ("Option", [inner]) => {
                    let inner = of(inner);
                    Shape { sort: format!("{} or null", inner.sort), ..inner }
                }
                ("BTreeMap", [_, inner]) => plain(format!("object of {}", plural(&of(inner).sort))),
                (name, _) => named(engine, file, name, attrs),
            }
        }
        _ => panic!("dumper/src/{}: a field that this test cannot show", file.path()),
    }
}

/// The shape of a type that the engine defines. `attrs` are those of the field.
fn named<'a>(engine: &'a Engine, file: &'a File, name: &str, attrs: &[Attribute]) -> Shape<'a> {
    let plain = |sort: &str| Shape { sort: sort.to_owned(), suffix: "", inner: None, values: String::new() };
    match engine.find(file, name) {
        Some((file, Item::Type(alias))) => shape(engine, file, &alias.ty, attrs),
        Some((file, Item::Enum(item))) => {
            let (sort, values) = variants(engine, file, item);
            Shape { values, ..plain(&sort) }
        }
        Some((file, Item::Struct(item))) => match &item.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => shape(engine, file, &fields.unnamed[0].ty, attrs),
            Fields::Unnamed(fields) => {
                let parts = fields.unnamed.iter().map(|field| shape(engine, file, &field.ty, attrs).sort);
                plain(&format!("[{}]", parts.collect::<Vec<_>>().join(", ")))
            }
            fields => Shape { inner: Some((file, fields)), ..plain("object") },
        },
        // A macro generates this type, so its fields are unknown here. The comment on the field
        // must list them.
        _ => {
            assert!(!doc(attrs).is_empty(), "dumper/src/{}: say on the field what {name} holds", file.path());
            plain("object")
        }
    }
}

/// The JSON type of an enum, and the meaning of each value.
fn variants(engine: &Engine, file: &File, item: &ItemEnum) -> (String, String) {
    let attrs = serde(&item.attrs);
    let (mut sorts, mut values) = (Vec::new(), Vec::new());
    for variant in &item.variants {
        let name = spelled(&variant.ident.to_string(), &attrs);
        let inner = variant.fields.iter().next().map(|field| shape(engine, file, &field.ty, &field.attrs).sort);
        let (sort, value) = match inner {
            None => ("string".to_owned(), format!("`\"{name}\"`")),
            Some(inner) if attrs.iter().any(|it| it == "untagged") => (inner.clone(), inner),
            Some(inner) => ("object".to_owned(), format!("`{{\"{name}\": {inner}}}`")),
        };
        if !sorts.contains(&sort) {
            sorts.push(sort);
        }
        let said = doc(&variant.attrs).replace('\n', " ");
        values.push(format!("{value}: {}", lowered(said.trim_end_matches('.'))));
    }
    (sorts.join(" or "), format!("{}.", values.join("; ")))
}

/// The name of a variant under `rename_all`.
fn spelled(name: &str, attrs: &[String]) -> String {
    let mut words = String::new();
    for (at, letter) in name.chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            words.push('_');
        }
        words.push(letter);
    }
    match attrs.iter().find_map(|it| it.strip_prefix("rename_all = ")) {
        Some("\"lowercase\"") => name.to_lowercase(),
        Some("\"snake_case\"") => words.to_lowercase(),
        Some("\"SCREAMING_SNAKE_CASE\"") => words.to_uppercase(),
        Some(other) => panic!("rename_all = {other}"),
        None => name.to_owned(),
    }
}

/// A sentence that continues after a colon.
fn lowered(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next();
    match first {
        // An abbreviation keeps its capitals.
        Some(first) if !letters.as_str().starts_with(|next: char| next.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}

fn plural(sort: &str) -> String {
    match sort.split_once(' ') {
        Some((first, rest)) if !sort.starts_with('[') => format!("{} {rest}", plural(first)),
        None if !sort.ends_with(['s', ']']) => format!("{sort}s"),
        _ => sort.to_owned(),
    }
}

fn renamed(attrs: &[String]) -> Option<String> {
    Some(attrs.iter().find_map(|it| it.strip_prefix("rename = "))?.trim_matches('"').to_owned())
}

/// The contents of `#[serde(...)]`, one item each.
fn serde(attrs: &[Attribute]) -> Vec<String> {
    let mut found = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        if let Meta::List(list) = &attr.meta {
            found.extend(list.tokens.to_string().split(',').map(|it| it.trim().to_owned()));
        }
    }
    found
}

fn arguments(arguments: &PathArguments) -> Vec<&Type> {
    let PathArguments::AngleBracketed(list) = arguments else { return Vec::new() };
    let types = list.args.iter().filter_map(|it| if let GenericArgument::Type(ty) = it { Some(ty) } else { None });
    types.collect()
}

fn is_parameter(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("T"))
}
