//! Which earlier items do not compile with new ones, and what is tried with them next.

use std::collections::{BTreeMap, BTreeSet};

use super::imports;
use super::units::Verdict;
use super::verdict::whole_books;
use crate::cell::Items;
use crate::cell::diagnostic;
use crate::cell::items::{Advance, Broken, Item, ItemId};
use crate::cell::rustc_json::Message;

/// An earlier item that does not compile with the new ones, and why.
pub(super) type Breaks = BTreeMap<ItemId, (Broken, String)>;

/// What rustc says of one item.
struct Guilt {
    why: String,
    /// The places, in its text, of calls that were taken for those of old members and are not.
    of_others: BTreeSet<usize>,
    /// Whether that is all that is wrong.
    only: bool,
}

/// Finds which earlier items rustc complains of, and what is to be tried with them next. False when
/// nothing is left to try.
pub(super) fn blame(
    old: &Items,
    next: &Advance,
    verdicts: &[Verdict],
    files: &[String],
    breaks: &mut Breaks,
) -> bool {
    let mut changed = false;
    for verdict in verdicts.iter().filter(|verdict| !verdict.success) {
        let has_copies = breaks.values().any(|(broken, _)| broken.keeps_copies());
        for (id, guilt) in guilty(old, next, verdict, files, has_copies) {
            let (before, why) = match breaks.get(&id) {
                Some((broken, first)) => (Some(broken.clone()), first.clone()),
                None => (None, guilt.why.clone()),
            };
            let Some(next) = following(old, next, id, before, &guilt) else { continue };
            changed = true;
            breaks.insert(id, (next, why));
        }
    }
    changed
}

/// The same of earlier items that use an import which leads nowhere any more.
pub(super) fn blame_imports(
    old: &Items,
    next: &Advance,
    verdicts: &[Verdict],
    breaks: &mut Breaks,
) -> bool {
    let mut guilty: BTreeMap<ItemId, String> = BTreeMap::new();
    for verdict in verdicts.iter().filter(|verdict| !verdict.success) {
        let unit = next.items.unit(&verdict.unit).expect("a verdict is of a unit");
        for (path, why) in imports::unresolved(&verdict.messages) {
            let all = || unit.items.iter().map(|id| (id, &next.items.all[id]));
            let mut users: Vec<(&ItemId, &Item)> =
                all().filter(|(_, item)| next.items.imports_by(item, &path)).collect();
            // It may be there for nobody in particular.
            if users.is_empty() {
                users = all().filter(|(_, item)| next.items.stands_by(item, &path)).collect();
            }
            let users = users.into_iter().filter_map(|(id, item)| earlier(old, *id, item));
            users.for_each(|id| _ = guilty.entry(id).or_insert_with(|| why.clone()));
        }
    }
    let mut changed = false;
    for (id, why) in guilty {
        let before = breaks.get(&id).map(|(broken, _)| broken.clone());
        let guilt = Guilt { why: why.clone(), of_others: BTreeSet::new(), only: false };
        if let Some(following) = following(old, next, id, before, &guilt) {
            changed = true;
            breaks.entry(id).or_insert((Broken::Pinned, why)).0 = following;
        }
    }
    changed
}

/// What an item was before the cell.
fn earlier(old: &Items, id: ItemId, item: &Item) -> Option<ItemId> {
    let same =
        |old: &Item| old.sheet == item.sheet && old.piece.range == item.piece.range && !old.retired;
    let known = old.all.get_key_value(&id).filter(|(_, old)| old.retired);
    known.or_else(|| old.all.iter().find(|(_, old)| same(old))).map(|(id, _)| *id)
}

/// What an item is tried with when `before` did not help.
fn following(
    old: &Items,
    next: &Advance,
    id: ItemId,
    before: Option<Broken>,
    guilt: &Guilt,
) -> Option<Broken> {
    // What is kept for its values, or for others, knows its names already, and stays.
    let (is_past, has_members) = (old.all[&id].retired, next.ways.members.contains(&id));
    Some(match before {
        None if !is_past => Broken::Pinned,
        None | Some(Broken::Pinned) if has_members => Broken::ByName(BTreeMap::new()),
        Some(Broken::ByName(mut others)) if guilt.only => {
            for place in &guilt.of_others {
                *others.entry(*place).or_default() += 1;
            }
            Broken::ByName(others)
        }
        Some(Broken::ByName(_)) => Broken::Members,
        Some(before) if !is_past => without_members(old, next, id, &before)?,
        None | Some(_) => return None,
    })
}

/// What an item is tried with when old members do not help.
fn without_members(old: &Items, next: &Advance, id: ItemId, before: &Broken) -> Option<Broken> {
    let types = || next.ways.types(old, &next.items, id);
    Some(match before {
        Broken::Withheld => return None,
        Broken::Types(_) => Broken::Withheld,
        Broken::Functions => with_types(types()),
        _ if next.ways.has_functions(old, id) => Broken::Functions,
        _ => with_types(types()),
    })
}

fn with_types(types: BTreeSet<ItemId>) -> Broken {
    if types.is_empty() { Broken::Withheld } else { Broken::Types(types) }
}

/// The items of earlier cells that a unit's errors point into; where there are copies of what they
/// were, not by errors in these.
fn guilty(
    old: &Items,
    next: &Advance,
    verdict: &Verdict,
    files: &[String],
    has_copies: bool,
) -> BTreeMap<ItemId, Guilt> {
    let books = whole_books(&next.items, files);
    let unit = next.items.unit(&verdict.unit).expect("a verdict is of a unit");
    let errors = verdict.messages.iter().filter(|message| message.level == "error");
    let mut guilty: BTreeMap<ItemId, Guilt> = BTreeMap::new();
    for message in errors {
        let Some((book, at)) = diagnostic::user_place(message, &books) else { continue };
        let places = unit.items.iter().map(|id| (id, &next.items.all[id]));
        let found = places.filter(|(id, item)| {
            let text = &next.items.sheets[&item.sheet].text;
            let is_copy = has_copies && item.retired && !old.all.contains_key(id);
            item.piece.range.contains(&at) && book.text == text && !is_copy
        });
        for (id, item) in found {
            let Some(id) = earlier(old, *id, item) else { continue };
            let guilt = guilty.entry(id).or_insert_with(|| Guilt {
                why: diagnostic::title(message),
                of_others: BTreeSet::new(),
                only: true,
            });
            if is_of_others(message) {
                guilt.of_others.insert(at - item.piece.range.start);
            } else {
                guilt.only = false;
            }
        }
    }
    guilty
}

/// Whether rustc misses an old member's own name in a type that never had it, where the item's own
/// text says it: what a macro says is not another at each of its calls.
fn is_of_others(message: &Message) -> bool {
    let mut primary = message.spans.iter().filter(|span| span.is_primary);
    if primary.any(|span| span.expansion.is_some()) {
        return false;
    }
    let number = message.code.as_ref().map(|code| code.code.as_str());
    matches!(number, Some("E0599" | "E0689")) && Item::speaks_of_own_name(&message.message)
}

/// Old members cannot be kept where the new ones do not compile beside them; false when none are.
pub(super) fn give_members_up(old: &Items, next: &Advance, breaks: &mut Breaks) -> bool {
    let mut found = false;
    for (id, (broken, _)) in breaks {
        let following = match broken {
            Broken::ByName(_) => Some(Broken::Members),
            Broken::Members => without_members(old, next, *id, broken),
            _ => None,
        };
        let Some(following) = following else { continue };
        (*broken, found) = (following, true);
    }
    found
}

/// Who goes on with copies is left out where no arrangement of crates is found with these, or they
/// do not compile; false when nobody does.
pub(super) fn give_copies_up(breaks: &mut Breaks) -> bool {
    let with_copies = breaks.values_mut().filter(|(broken, _)| broken.keeps_copies());
    with_copies.map(|(broken, _)| *broken = Broken::Withheld).count() > 0
}
