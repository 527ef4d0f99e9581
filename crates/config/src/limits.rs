//! Bounds of what peers may cost, as settings: a line each with its default and its range, all of a role's under one
//! heading of its help.

use clap::builder::RangedU64ValueParser;

/// Takes whole numbers from `least` to `most`. What is outside stops the start, with the setting and the range.
pub fn within<T>(least: u64, most: u64) -> RangedU64ValueParser<T>
where
    T: TryFrom<u64> + Clone + Send + Sync,
{
    RangedU64ValueParser::new().range(least..=most)
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
