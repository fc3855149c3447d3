//! Names shortened to what varies.

/// Names without what all of them begin and end with.
pub(crate) struct Short {
    head: String,
    tail: String,
}

impl Short {
    pub(crate) fn of(names: &[&str]) -> Self {
        let none = || Self { head: String::new(), tail: String::new() };
        let different = names.iter().any(|name| *name != names[0]);
        let Some(first) = names.first().filter(|_| different && names.iter().all(|n| n.is_ascii())) else {
            return none();
        };
        let shared = |same: &dyn Fn(&[u8], usize) -> bool| {
            (0..first.len()).take_while(|n| names.iter().all(|name| same(name.as_bytes(), *n))).count()
        };
        let bytes = first.as_bytes();
        let head = shared(&|name, n| name.get(n) == bytes.get(n));
        let tail = shared(&|name, n| name.iter().nth_back(n) == bytes.iter().nth_back(n));
        // Only whole words are left out.
        let head = first[..head].rfind('_').map_or(0, |at| at + 1);
        let ending = &first[first.len() - tail..];
        let tail = ending.find('_').map_or(0, |at| ending.len() - at);
        if names.iter().any(|name| head + tail >= name.len()) {
            return none();
        }
        Self { head: first[..head].to_owned(), tail: first[first.len() - tail..].to_owned() }
    }

    pub(crate) fn name<'n>(&self, name: &'n str) -> &'n str {
        let inner =
            name.strip_prefix(self.head.as_str()).and_then(|name| name.strip_suffix(self.tail.as_str()));
        inner.unwrap_or(name)
    }

    /// What is left out, for a caption.
    pub(crate) fn said(&self, names: &str) -> String {
        if self.head.is_empty() && self.tail.is_empty() {
            return String::new();
        }
        format!(" ({names} {}…{})", self.head, self.tail)
    }
}
