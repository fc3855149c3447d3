//! Flags of a setup's axes, one for each entry of the table in `mantissa_numerics::setup`.

use std::ffi::OsStr;

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use mantissa_lab::setup::grid;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::{Axis, Value, WrongValue};

/// The values that each axis was given, in the order of the table.
#[derive(Debug, Clone)]
pub(crate) struct AxisFlags(Vec<Vec<Value>>);

impl AxisFlags {
    /// Every combination of the given values; the first axis varies fastest.
    ///
    /// *Errors:* a value that is given twice.
    pub(crate) fn setups(&self) -> anyhow::Result<Vec<Setup>> {
        for values in &self.0 {
            let twice = values.iter().enumerate().find(|(i, value)| values[..*i].contains(value));
            if let Some((_, twice)) = twice {
                bail!("--{}: {twice} is given twice; give each value once", long(twice.axis()));
            }
        }
        Ok(grid(Setup::default(), &self.0))
    }
}

/// Values of every axis but the batch size, whose ranges are read apart, for what looks at many setups.
#[derive(Debug, Clone)]
pub(crate) struct AxisLists(Vec<Vec<Value>>);

impl AxisLists {
    /// The values of `axis`.
    pub(crate) fn of(&self, axis: Axis) -> &[Value] {
        self.0
            .iter()
            .find(|values| values.first().is_some_and(|value| value.axis() == axis))
            .map_or(&[], |x| x)
    }

    /// The values of every axis, those of `axis` replaced by `values`.
    pub(crate) fn with(&self, axis: Axis, values: Vec<Value>) -> Vec<Vec<Value>> {
        let others = self.0.iter().filter(|all| all.first().is_none_or(|value| value.axis() != axis));
        others.cloned().chain([values]).collect()
    }

    /// What is looked at where nothing is given.
    fn usual(axis: Axis) -> String {
        match axis {
            Axis::Hardware => "h200,h100".to_owned(),
            Axis::Attention => "eager,sdpa_flash,sdpa_math".to_owned(),
            Axis::Dtype => "bf16".to_owned(),
            axis => Setup::default().get(axis).to_string(),
        }
    }
}

impl clap::Args for AxisLists {
    fn augment_args(command: Command) -> Command {
        let listed =
            |axis: Axis| flag(axis).value_name("LIST").action(ArgAction::Append).value_delimiter(',');
        let flags = axes().map(|axis| listed(axis).default_value(Self::usual(axis)));
        command.args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for AxisLists {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |axis: Axis| matches.get_many(axis.name()).into_iter().flatten().copied().collect();
        Ok(Self(axes().map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn axes() -> impl Iterator<Item = Axis> {
    Axis::ALL.into_iter().filter(|axis| *axis != Axis::BatchSize)
}

fn long(axis: Axis) -> String {
    axis.name().replace('_', "-")
}

fn flag(axis: Axis) -> Arg {
    let flag = axis.flag();
    let arg = Arg::new(axis.name())
        .long(long(axis))
        .help(flag.help)
        .value_name(flag.value_name)
        .default_value(Setup::default().get(axis).to_string())
        .hide(flag.hidden)
        .value_parser(AxisParser(axis));
    if flag.list { arg.action(ArgAction::Append).value_delimiter(',') } else { arg.action(ArgAction::Set) }
}

impl clap::Args for AxisFlags {
    fn augment_args(command: Command) -> Command {
        command.args(Axis::ALL.map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for AxisFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |axis: Axis| matches.get_many(axis.name()).into_iter().flatten().copied().collect();
        Ok(Self(Axis::ALL.map(given).into()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Reads a value of an axis.
#[derive(Clone)]
pub(crate) struct AxisParser(pub(crate) Axis);

impl TypedValueParser for AxisParser {
    type Value = Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Value, Error> {
        match (self.0.parse(&value.to_string_lossy()), self.0.words()) {
            (Err(WrongValue::Renamed { now, .. }), _) => {
                Err(wrong(command, arg, value, &format!("use {now}")))
            }
            // Clap's own words, with what was perhaps meant; spelled as listed and no other way.
            (_, Some(words)) => {
                let word = PossibleValuesParser::new(words).parse_ref(command, arg, value)?;
                self.0.parse(&word).map_err(|error| wrong(command, arg, value, &error.remedy()))
            }
            (read, None) => read.map_err(|error| wrong(command, arg, value, &error.remedy())),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.words()?.into_iter().map(PossibleValue::new)))
    }
}

/// A value that is none, and what to use.
fn wrong(command: &Command, arg: Option<&Arg>, value: &OsStr, remedy: &str) -> Error {
    let arg = arg.map_or_else(|| "...".to_owned(), ToString::to_string);
    let message = format!("invalid value '{}' for '{arg}': {remedy}", value.to_string_lossy());
    Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
}
