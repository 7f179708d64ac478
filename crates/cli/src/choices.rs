//! Values of options that every command has.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// The value of `--color` that means this.
    pub(super) fn name(self) -> &'static str {
        match self {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        }
    }

    /// Tells `anstream` whether to write colours. It decides "auto" by the terminal, NO_COLOR and CLICOLOR.
    pub(super) fn apply(self) {
        let choice = match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tune {
    /// Never
    Off,
    /// If it is not known yet
    Auto,
    /// Now, even if it is known
    Force,
}

impl Tune {
    pub(super) fn name(self) -> &'static str {
        match self {
            Tune::Off => "off",
            Tune::Auto => "auto",
            Tune::Force => "force",
        }
    }
}

impl From<Tune> for trivec::Tune {
    fn from(tune: Tune) -> trivec::Tune {
        match tune {
            Tune::Off => trivec::Tune::Off,
            Tune::Auto => trivec::Tune::Auto,
            Tune::Force => trivec::Tune::Force,
        }
    }
}
