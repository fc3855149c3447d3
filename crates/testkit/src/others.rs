//! A test harness for result files of others: its tests are listed as ignored where no folder of such files is named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::PUBLISHED;

/// Runs tests by their names, as `cargo test` asks for them. They are ignored unless [`PUBLISHED`] names folders; on a
/// machine that has none, `-- --ignored` runs them to their failure.
///
/// ```no_run
/// _ = mantissa_testkit::others::run(vec![("one_is_one", || assert_eq!(1, 1))]);
/// ```
#[must_use]
pub fn run(tests: Vec<(&'static str, fn())>) -> ExitCode {
    let named = std::env::var_os(PUBLISHED).is_some_and(|folders| !folders.is_empty());
    let trial = |(name, test): (&'static str, fn())| {
        let guarded = move || {
            catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Failed::from(text.unwrap_or("it panicked").to_owned())
            })
        };
        Trial::test(name, guarded).with_ignored_flag(!named)
    };
    libtest_mimic::run(&Arguments::from_args(), tests.into_iter().map(trial).collect()).exit_code()
}

/// The `main` of a test target without the standard harness: `others!(module: [test, …], …)`. A test that is not listed
/// is never used, which the compiler says.
#[macro_export]
macro_rules! others {
    ($($module:ident: [$($test:ident),* $(,)?]),* $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::others::run(vec![
                $($((concat!(stringify!($module), "::", stringify!($test)), $module::$test as fn())),*),*
            ])
        }
    };
}
