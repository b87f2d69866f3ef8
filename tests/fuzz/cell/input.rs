//! Arbitrary text as what a user types, cell after cell of one session; and as what rustc says of
//! it: its messages as JSON, the types in its MIR. Whatever the text, nothing panics or hangs.
//!
//! In one input, a line of `====` ends a cell; each is also read as rustc's output.

use std::collections::{BTreeMap, BTreeSet};

use prust_kernel::cell::diagnostic::{self, Book};
use prust_kernel::cell::items::{Broken, advance};
use prust_kernel::cell::plan::leaf::{self, LeafSlots};
use prust_kernel::cell::plan::shape::Shape;
use prust_kernel::cell::plan::unit;
use prust_kernel::cell::rustc_json::{Code, Expansion, Message, Span};
use prust_kernel::cell::{Items, Namespace, Split, depth, jumps, keep, mir, rustc_json};
use prust_kernel::kernel::{is_complete, magics};

const N_CELLS_MAX: usize = 6;
const FILE: &str = "src/cell.rs";

/// One input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut namespace = Namespace::default();
    for cell in text.split("\n====\n").take(N_CELLS_MAX) {
        read_magics(cell);
        run_cell(&mut namespace, cell);
        read_rustc(&namespace, cell);
        // What was read is remembered for spans, which end here.
        proc_macro2::extra::invalidate_current_thread_spans();
    }
}

fn read_magics(text: &str) {
    let _ = is_complete(text);
    let _ = magics::outline(text);
    for is_name in [false, true] {
        let _ = magics::read(text, &|_: &str| is_name);
    }
}

/// As the compiler does, but for rustc.
fn run_cell(namespace: &mut Namespace, text: &str) {
    let split = Split::read(text);
    if depth::too_deep(text).is_some() {
        return;
    }
    let _ = jumps::astray(text, &split);
    let mut scope = namespace.clone();
    if !split.items.is_empty() {
        let Some(items) = with_items(namespace, text, &split) else { return };
        scope.items = items;
    }
    let slots = LeafSlots::of(&scope, text, &split);
    let mut shape = Shape::of(&scope, text, &split);
    let _ = leaf::leaf(&scope, text, &split, &slots, &shape);
    for (name, _) in &split.declares {
        let _ = leaf::declared_at(text, &split, name);
    }
    let puts = (0..slots.puts.len()).map(|number| (number, "std::vec::Vec<i32>".to_owned()));
    let types = mir::Types { puts: puts.collect(), bodies: BTreeMap::new() };
    shape.keep(&types, text, Some);
    let (mut delta, _) = leaf::delta("In[1]", &split, &slots, &shape, &types.puts, text);
    delta.items = Some(Box::new(scope.items));
    namespace.apply(&delta);
    let _ = namespace.hash();
}

/// The items after this cell; first as if nothing broke, then as if every earlier one
/// did, and what is tried with these.
fn with_items(namespace: &Namespace, text: &str, split: &Split) -> Option<Items> {
    let old = &namespace.items;
    let new = unit::new_cell(namespace, "key", "In[1]", text, split);
    let held = namespace.held();
    let nothing = BTreeMap::new();
    let next = advance(old, &new, &held, &nothing, &BTreeSet::new())?;
    write_units(&next.items);
    for how in [Broken::Pinned, Broken::ByName(BTreeMap::new()), Broken::Members] {
        let broken = old.all.keys().map(|id| (*id, how.clone())).collect();
        if let Some(kept) = advance(old, &new, &held, &broken, &BTreeSet::new()) {
            write_units(&kept.items);
        }
    }
    Some(next.items)
}

fn write_units(items: &Items) {
    for each in &items.units {
        let plan = unit::unit(items, each, None);
        for part in &plan.parts {
            let _ = part.map.to_user(0..plan.krate.source.text.len());
        }
    }
}

/// The text as what rustc says about a cell.
fn read_rustc(namespace: &Namespace, text: &str) {
    read_types(namespace, text);
    let split = Split::read(text);
    if depth::too_deep(text).is_some() {
        return;
    }
    let slots = LeafSlots::of(namespace, text, &split);
    let plan = leaf::leaf(namespace, text, &split, &slots, &Shape::default());
    let book = Book { file: FILE, label: "In[1]", text, map: &plan.source.map };
    let mut messages = rustc_json::read(text);
    messages.push(made_up(text, plan.source.text.len()));
    let mut shape = Shape::default();
    for message in &messages {
        let _ = diagnostic::user_place(message, &[book]);
        let _ = diagnostic::question_on_none(message, book);
        let told = diagnostic::translate(message, &[book]);
        let _ = leaf::is_premature(&told, text, &split, &slots, &shape);
    }
    shape.learn(&messages, book);
    let _ = leaf::leaf(namespace, text, &split, &slots, &shape);
}

/// A message whose words are the text's, at places that follow from it.
fn made_up(text: &str, length: usize) -> Message {
    let seed = text.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
    let codes = ["E0382", "E0308", "E0277", "E0728", "E0597", "E0425", "unused_variables"];
    let span = |at: usize| Span {
        file_name: FILE.to_owned(),
        byte_start: at % (length + 2),
        byte_end: (at % (length + 2) + (at / 7) % 40).saturating_sub((at / 5) % 8),
        line_start: at % 7,
        column_start: at % 80,
        text: Vec::new(),
        is_primary: at.is_multiple_of(2),
        label: Some(text.chars().take(60).collect()),
        suggested_replacement: Some(text.chars().rev().take(20).collect()),
        expansion: None,
    };
    let macro_decl_name = "name!".to_owned();
    let inner = Box::new(Expansion { span: span(seed / 11), macro_decl_name, def_site_span: None });
    let spans = vec![span(seed), Span { expansion: Some(inner), ..span(seed / 3) }];
    let child = Message {
        message: text.chars().take(200).collect(),
        code: None,
        level: "help".to_owned(),
        spans: vec![span(seed / 5), span(seed / 13), span(seed / 17)],
        children: Vec::new(),
        rendered: None,
    };
    Message {
        message: text.lines().next().unwrap_or_default().to_owned(),
        code: Some(Code { code: codes[seed % codes.len()].to_owned() }),
        level: if seed.is_multiple_of(3) { "warning" } else { "error" }.to_owned(),
        spans,
        children: vec![child],
        rendered: Some(text.to_owned()),
    }
}

/// The text as MIR, and each of its lines as the name of a type.
fn read_types(namespace: &Namespace, text: &str) {
    let types = mir::read(text);
    let lines = text.lines().take(8).map(str::to_owned);
    for type_text in types.puts.values().cloned().chain(lines) {
        let _ = mir::unwritable(&type_text);
        let _ = mir::may_be_private(&type_text);
        let _ = mir::writable(&type_text);
        let _ = mir::elided(&type_text);
        let _ = mir::bounds(&type_text);
        let _ = mir::listed(&type_text);
        let _ = diagnostic::short(&type_text);
        let _ = prust_kernel::cell::namespace::unit_paths(&type_text);
        let mut errors = ["non-primitive cast", "cannot be shared between threads"].into_iter();
        let mut form = Some(keep::Form::STRONGEST);
        while let Some(each) = form {
            let _ = keep::kept("value", &type_text, &types, each);
            let _ = keep::kept_opaque("value", &type_text, each);
            form = each.weaker(errors.next().unwrap_or("of another kind"));
        }
        for function in [true, false] {
            let _ = keep::by_hand(&type_text, &types, function);
        }
    }
    let puts: Vec<(String, bool)> = (0..4).map(|number| (format!("x{number}"), true)).collect();
    let slots = LeafSlots { takes: Vec::new(), puts };
    let named: Vec<(usize, &str)> =
        types.puts.iter().map(|(number, text)| (*number, text.as_str())).collect();
    let _ = leaf::naming(namespace, &slots, &named);
    let _ = namespace.variables_of(&BTreeSet::from(["rand".to_owned()]));
}
