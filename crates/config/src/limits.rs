//! Bounds of what peers may cost, as settings: a line each with its default and its range, all of a role's under one
//! heading of its help.

use crate::{ConfigError, try_parse_from};
use clap::{
    Parser,
    builder::{RangedU64ValueParser, ValueParser},
};
use std::{
    any::TypeId,
    num::{NonZeroU32, NonZeroU64},
};

/// Takes whole numbers from `least` to `most`. What is outside stops the start, with the setting and the range.
pub fn within<T>(least: u64, most: u64) -> RangedU64ValueParser<T>
where
    T: TryFrom<u64> + Clone + Send + Sync,
{
    RangedU64ValueParser::new().range(least..=most)
}

/// A test helper for each role: all numeric settings have a range, so that no number makes a process fall over later
/// on. None takes the largest number of its type but those in `any`, and none takes 0 but those in `zero`, where it means
/// something; what is refused is refused by its name. `base` is what the role cannot do without, `check` what it looks at
/// when its settings are put together.
pub fn assert_ranges<T: Parser>(
    base: &[&str],
    any: &[&str],
    zero: &[&str],
    check: impl Fn(T) -> Result<(), ConfigError>,
) {
    let command = T::command();
    let takes = |name: &str, value: u64| {
        let flag = format!("--{name}={value}");
        let argv = base.iter().copied().chain([flag.as_str()]);
        match try_parse_from::<T>(argv).and_then(&check) {
            Ok(()) => true,
            Err(error) => {
                assert!(error.to_string().contains(&format!("--{name}")), "{flag}: {error}");
                false
            }
        }
    };
    let (mut taking_most, mut taking_zero) = (Vec::new(), Vec::new());
    for arg in command.get_arguments() {
        let (Some(name), Some(most)) = (arg.get_long(), most_of(arg.get_value_parser())) else {
            continue;
        };
        if takes(name, most) {
            taking_most.push(name);
        }
        if takes(name, 0) {
            taking_zero.push(name);
        }
    }
    taking_most.sort_unstable();
    taking_zero.sort_unstable();
    let taking = (&taking_most[..], &taking_zero[..]);
    assert_eq!(taking, (any, zero), "settings that take any number, and that take 0");
}

/// The largest number of a setting's type; `None` if it is no whole number.
fn most_of(parser: &ValueParser) -> Option<u64> {
    let types = [
        (TypeId::of::<u8>(), u8::MAX.into()),
        (TypeId::of::<u16>(), u16::MAX.into()),
        (TypeId::of::<u32>(), u32::MAX.into()),
        (TypeId::of::<NonZeroU32>(), u32::MAX.into()),
        (TypeId::of::<u64>(), u64::MAX),
        (TypeId::of::<NonZeroU64>(), u64::MAX),
        (TypeId::of::<usize>(), u64::MAX),
        (TypeId::of::<i64>(), i64::MAX.unsigned_abs()),
    ];
    let own = types.iter().find(|(kind, _)| parser.type_id() == *kind);
    own.map(|(_, most)| *most)
}

/// Makes settings of a role's bounds: `name: type = default, least..most, "flag", "VARIABLE", "UNIT";` for each, with
/// its help before it. `Default` is what holds without any setting.
#[macro_export]
macro_rules! limits {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$help:meta])*
                $field:ident: $type:ty = $default:expr, $least:literal..$most:literal,
                $flag:literal, $variable:literal, $unit:literal;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::clap::Args)]
        $vis struct $name {
            $(
                $(#[$help])*
                #[arg(id = $flag, long = $flag, env = $variable, default_value_t = $default, value_name = $unit,
                      help_heading = "Limits", value_parser = $crate::within::<$type>($least, $most))]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    limits! {
        /// Bounds.
        struct Limits {
            /// Heads at once.
            heads: u32 = 4, 1..9, "limit-heads", "PENSTOCK_LIMIT_HEADS", "N";
            /// Longest name.
            name_bytes: usize = 16 << 10, 1_024..65_536, "limit-name-bytes", "PENSTOCK_LIMIT_NAME_BYTES", "BYTES";
        }
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
        /// Something else.
        #[arg(long)]
        other: bool,
    }

    #[test]
    fn a_number_without_a_range_is_found() {
        crate::assert_ranges::<Line>(&["x"], &[], &[], |_| Ok(()));
        #[derive(Debug, Parser)]
        struct Open {
            #[command(flatten)]
            line: Line,
            /// Not looked at.
            #[arg(long)]
            heads_in_all: u32,
        }
        let ok = |open: Open| {
            assert!(!open.line.other || open.heads_in_all > 0);
            Ok(())
        };
        crate::assert_ranges(&["x"], &["heads-in-all"], &["heads-in-all"], ok);
        for (any, zero) in [(&[][..], &["heads-in-all"][..]), (&["heads-in-all"][..], &[][..])] {
            let found = std::panic::catch_unwind(|| crate::assert_ranges(&["x"], any, zero, ok));
            assert!(found.is_err());
        }
    }

    #[test]
    fn defaults_ranges_and_a_heading_of_their_own() {
        crate::assert_definition::<Line>();
        let line = Line::parse_from(["x"]);
        assert_eq!((line.limits, line.other), (Limits::default(), false));
        let line = Line::parse_from(["x", "--limit-heads=9", "--limit-name-bytes=1024"]);
        assert_eq!(line.limits, Limits { heads: 9, name_bytes: 1_024 });
        for bad in
            ["--limit-heads=0", "--limit-heads=10", "--limit-name-bytes=1023", "--limit-heads=x"]
        {
            let error = Line::try_parse_from(["x", bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation);
            let (flag, _) = bad.split_once('=').unwrap();
            assert!(error.to_string().contains(flag), "{error}");
        }
        let help = <Line as clap::CommandFactory>::command().render_help().to_string();
        let (own, limits) = help.split_once("Limits:").unwrap();
        assert!(own.contains("--other") && limits.contains("--limit-heads"), "{help}");
        assert!(!limits.contains("--other"), "{help}");
    }
}
