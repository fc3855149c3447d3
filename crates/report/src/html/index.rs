//! The page that leads to several others: one row per analysis.

use std::io::{self, Write};

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::Answer;

use crate::foreign::{html as escape, push};
use crate::words;

/// Writes a page that links to `pages`: file name beside the index, and the analysis that it shows.
///
/// ```
/// use mantissa_report::index;
/// use mantissa_verdict::{Options, judge};
///
/// // An analysis of no file at all.
/// let analysis = judge(&[], &Options::default())?;
/// let mut page = Vec::new();
/// index(&[("q&a.html".to_owned(), &analysis)], &mut page)?;
/// let page = String::from_utf8(page)?;
/// assert!(page.contains("<a href=\"q&amp;a.html\">") && page.contains("not enough evidence"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn index(pages: &[(String, &Analysis)], out: &mut dyn Write) -> io::Result<()> {
    let mut rows = String::new();
    for (link, analysis) in pages {
        let names: Vec<String> = analysis.sources.iter().map(|source| escape(&source.name)).collect();
        let separable = analysis.pairs.iter().filter(|pair| pair.answer == Answer::Separable).count();
        push(
            &mut rows,
            format_args!(
                "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td>{}</td><td>{}</td><td>{separable} of {}</td></tr>\n",
                escape(link),
                names.join("<br/>"),
                escape(&analysis.question.variable),
                words::headline(analysis.mode, analysis.outcome),
                analysis.pairs.len(),
            ),
        );
    }
    super::page::head(&format!("Mantissa: {} analyses", pages.len()), out)?;
    write!(
        out,
        "<header><p class=\"product\">Mantissa</p><h1>What the evidence shows</h1></header>\n\
         <main id=\"main\" tabindex=\"-1\">\n<section aria-labelledby=\"analyses\">\
         <h2 id=\"analyses\">Analyses</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Analyses\">\
         <table><caption>One page per analysis</caption><thead><tr><th scope=\"col\">Evidence</th>\
         <th scope=\"col\">Variable</th><th scope=\"col\">Outcome</th><th scope=\"col\">Separable pairs</th></tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div></section>\n</main>\n</body>\n</html>\n"
    )
}
