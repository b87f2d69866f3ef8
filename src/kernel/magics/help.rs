//! The texts of `%help`, `%lsmagic` and `%quickref`, made from the table.
use std::fmt::Write;

use super::table::{Form, MAGICS, Spec, find};

const QUICK_REFERENCE: &str = "\
let x = 1;                     variables live on from cell to cell
x + 1                          a last line without ; is shown
fn f(n: u64) -> u64 { n * 2 }  functions, types, traits, macros: define and redefine
:dep rand = \"0.9\"              use a crate
%%px                           run the cell on every engine
%%px -t 0:2 --noblock -o ar    on some of them, at once, as a variable
let rc = Client::connect()?;   the engines as values
rc.load_balanced_view().map(f, 0..1000u64)
                               a function spread over the pool; shows a live panel
rc.direct_view(..).apply(std::process::id).get()?
                               a call on every engine
%cluster start -n 4            how many engines
%cluster start -n 8 --detach   engines that go on without this notebook
%cluster attach NAME           engines of another cluster; %cluster detach leaves them
%vars  %undo  %restart         variables: list, step back, start over
!ls                            a command of the shell
";

/// What `%help` prints, about everything or about one magic.
///
/// # Errors
/// A sentence, when there is no such magic.
pub fn help(topic: Option<&str>) -> Result<String, String> {
    let Some(topic) = topic else {
        let mut text = QUICK_REFERENCE.to_owned();
        text.push_str("\nMagics (%help NAME tells more):\n");
        for spec in MAGICS {
            let _ = writeln!(text, "  {:<12} {}", shown_name(spec), spec.summary);
        }
        return Ok(text);
    };
    let name = topic.trim_start_matches(['%', ':']);
    let spec = find(name).ok_or_else(|| {
        let near = super::words::nearest(name, MAGICS.iter().map(|spec| spec.name));
        match near {
            Some(near) => format!("there is no magic {topic}; did you mean %{near}?"),
            None => format!("there is no magic {topic}; %lsmagic lists what there is"),
        }
    })?;
    Ok(about(spec))
}

/// One magic with its options.
pub(in super::super) fn about(spec: &Spec) -> String {
    let mut text = format!("{}\n{}\n", spec.usage(), spec.summary);
    if spec.form == Form::Both {
        let _ = writeln!(text, "As the first line of a cell: %%{}", spec.name);
    }
    if spec.colon {
        let _ = writeln!(text, "Also: :{}", spec.name);
    }
    for choice in spec.options {
        let short = match choice.short {
            "" => String::new(),
            short => format!("-{short}, "),
        };
        let long =
            if choice.long.len() == 1 { String::new() } else { format!("--{}", choice.long) };
        let name = format!("{short}{long} {}", choice.value);
        let name = name.trim().trim_end_matches(',');
        let _ = writeln!(text, "  {name:<36} {}", choice.help);
    }
    text
}

/// What `%lsmagic` prints.
pub fn list() -> String {
    let names = |form: fn(&Spec) -> bool, sign: &str| {
        let names = MAGICS.iter().filter(|spec| form(spec));
        names.map(|spec| format!("{sign}{}", spec.name)).collect::<Vec<_>>().join("  ")
    };
    format!(
        "Line magics:\n{}\n\nCell magics:\n{}\n\nCommands of evcxr:\n{}\n",
        names(Spec::is_line, "%"),
        names(Spec::is_cell, "%%"),
        names(|spec| spec.colon, ":"),
    )
}

/// What `%quickref` prints.
pub fn quick_reference() -> &'static str {
    QUICK_REFERENCE
}

fn shown_name(spec: &Spec) -> String {
    let sign = if spec.form == Form::Cell { "%%" } else { "%" };
    format!("{sign}{}", spec.name)
}
