//! By `Display` where the error's type has it, else by `Debug`: a conversion for every error cannot
//! ask for more than `Debug`, so this needs rustc's `specialization`. Nothing but text comes of it,
//! whatever lifetimes the more special impl was chosen for.

use std::error::Error;
use std::fmt::{Debug, Display};

use super::InWords;

impl<E: Debug> InWords for E {
    default fn in_words(&self) -> String {
        format!("{self:?}")
    }
}

impl<E: Debug + Display> InWords for E {
    default fn in_words(&self) -> String {
        let (words, debug) = (self.to_string(), format!("{self:?}"));
        // A report such as anyhow's says the same by `Debug`, and then its causes.
        if !words.is_empty() && debug.starts_with(&words) { debug } else { words }
    }
}

impl<E: Error> InWords for E {
    fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        let mut said = words.clone();
        while let Some(error) = cause {
            let next = error.to_string();
            // Many errors say their cause themselves.
            if !said.contains(&next) {
                words.push_str("\n\nCaused by: ");
                words.push_str(&next);
            }
            said = next;
            cause = error.source();
        }
        words
    }
}
