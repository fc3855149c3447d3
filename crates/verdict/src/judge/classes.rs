//! Classes of setups that are equal in pairs.

use crate::found::Unplaced;

/// Setups grouped.
pub(super) struct Groups {
    /// Classes in the order of their first setups.
    pub(super) classes: Vec<Vec<String>>,
    /// Setups in no class, and why.
    pub(super) unplaced: Vec<(String, Unplaced)>,
    /// Whether every two classes were compared and differ.
    pub(super) told_apart: bool,
}

/// Groups setups: one joins the first class with all of whose members it is equal. A setup that could be compared with
/// no other is placed in none, nor one that may belong to a class of which nobody is known to differ from it; one that
/// differs from all classes is a class of its own.
///
/// `equal` says whether two setups (smaller index first) are equal; `None` where they could not be compared. With two
/// setups or more, so that "compared with no other" has a meaning.
pub(super) fn group(labels: &[String], equal: impl Fn(usize, usize) -> Option<bool>) -> Groups {
    let between = |a: usize, b: usize| equal(a.min(b), a.max(b));
    let mut classes: Vec<Vec<usize>> = Vec::new();
    let mut unplaced = Vec::new();
    for setup in 0..labels.len() {
        let compared =
            (0..labels.len()).filter(|&other| other != setup).any(|other| between(setup, other).is_some());
        if !compared {
            unplaced.push((labels[setup].clone(), Unplaced::NothingComparable));
            continue;
        }
        let home =
            classes.iter_mut().find(|class| class.iter().all(|&member| between(member, setup) == Some(true)));
        if let Some(class) = home {
            class.push(setup);
            continue;
        }
        // Of a class in which nobody is known to differ, a setup may be a member: it is no class of its own.
        let perhaps =
            classes.iter().find(|class| class.iter().all(|&member| between(member, setup) != Some(false)));
        match perhaps {
            Some(class) => {
                unplaced.push((labels[setup].clone(), Unplaced::Perhaps(labels[class[0]].clone())));
            }
            None => classes.push(vec![setup]),
        }
    }
    let differ =
        |a: &[usize], b: &[usize]| a.iter().any(|&x| b.iter().any(|&y| between(x, y) == Some(false)));
    let told_apart = classes
        .iter()
        .enumerate()
        .all(|(index, class)| classes[index + 1..].iter().all(|other| differ(class, other)));
    let named = |class: &Vec<usize>| class.iter().map(|&setup| labels[setup].clone()).collect();
    Groups { classes: classes.iter().map(named).collect(), unplaced, told_apart }
}

#[cfg(test)]
mod tests {
    use super::group;
    use crate::said;

    #[test]
    fn missing_is_neither_equal_nor_different() {
        let labels: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let equal = |a: usize, b: usize| match (a, b) {
            (0, 2) => Some(true),
            (_, 3) => None,
            _ => Some(false),
        };
        let groups = group(&labels, equal);
        assert_eq!(groups.classes, [vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()]]);
        assert_eq!(groups.unplaced.len(), 1);
        assert_eq!(groups.unplaced[0].0, "d");
        assert!(groups.told_apart);
        let one_unknown = |a: usize, b: usize| if (a, b) == (0, 1) { None } else { Some(false) };
        let groups = group(&labels, one_unknown);
        assert_eq!(groups.classes, [vec!["a".to_owned()], vec!["c".to_owned()], vec!["d".to_owned()]]);
        let [(label, why)] = &groups.unplaced[..] else { panic!("{:?}", groups.unplaced) };
        assert_eq!((label.as_str(), said::unplaced(why)), ("b", "not fully comparable with a".to_owned()));
        assert!(groups.told_apart);
    }
}
