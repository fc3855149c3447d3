//! Items among the tokens of macros: what a call of one is given, and what a definition writes out.
//!
//! Left out: names that a macro puts together.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A function or type among tokens, or (with a `method`) an `impl` that has an example.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) public: bool,
    /// Its documentation.
    pub(super) text: String,
    /// A method of it whose documentation is `text`.
    pub(super) method: Option<String>,
}

/// The items among a macro's tokens.
pub(super) fn made(tokens: TokenStream) -> Vec<Made> {
    let mut found = Vec::new();
    scan(tokens, None, &mut found);
    found
}

fn scan(tokens: TokenStream, owner: Option<&str>, found: &mut Vec<Made>) {
    let (mut text, mut public, mut of_impl, mut last) = (String::new(), false, false, String::new());
    let mut keyword = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                text.push_str(&documentation(&group.stream()));
            }
            TokenTree::Group(group) => {
                // What stands in parentheses after `pub` says who else sees it: not other crates.
                public &= group.delimiter() != Delimiter::Parenthesis;
                let inner =
                    of_impl.then_some(last.as_str()).filter(|_| group.delimiter() == Delimiter::Brace);
                scan(group.stream(), inner, found);
                if group.delimiter() == Delimiter::Brace {
                    (text, public, of_impl) = (String::new(), false, false);
                }
            }
            TokenTree::Ident(ident) => {
                let word = ident.to_string();
                if keyword {
                    let (name, method) = match owner {
                        Some(owner) => (owner.to_owned(), Some(word.clone())),
                        None => (word.clone(), None),
                    };
                    found.push(Made { name, public, text: std::mem::take(&mut text), method });
                }
                public |= word == "pub";
                of_impl |= word == "impl";
                keyword = matches!(word.as_str(), "enum" | "fn" | "struct" | "trait" | "union");
                last = word;
                continue;
            }
            TokenTree::Punct(sign) if matches!(sign.as_char(), ';' | ',') => {
                (text, public) = (String::new(), false);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        keyword = false;
    }
}

/// The line of a `doc = "…"`.
fn documentation(attribute: &TokenStream) -> String {
    let tokens: Vec<TokenTree> = attribute.clone().into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(doc), TokenTree::Punct(_), TokenTree::Literal(line)] if doc == "doc" => {
            let line = syn::parse_str::<syn::LitStr>(&line.to_string()).map(|line| line.value());
            line.unwrap_or_default() + "\n"
        }
        _ => String::new(),
    }
}
