//! The widget models of one panel: which there are, what they start with, what changes. Core
//! models of `@jupyter-widgets/controls` 2.0.0 only. Knows no messages.
use serde_json::{Map, Value, json};

use super::sections::Section;

/// What a model is in the panel. The order is the order of opening: what is referred to comes
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    RootLayout,
    InnerLayout,
    FillLayout,
    ButtonLayout,
    RetryLayout,
    SectionLayout,
    HtmlStyle,
    ButtonStyle,
    Title,
    Cancel,
    Retry,
    Body,
    Output,
    Errors,
    Tasks,
    Top,
    Sections,
    Root,
}

impl Part {
    pub(super) const ALL: [Self; 18] = [
        Self::RootLayout,
        Self::InnerLayout,
        Self::FillLayout,
        Self::ButtonLayout,
        Self::RetryLayout,
        Self::SectionLayout,
        Self::HtmlStyle,
        Self::ButtonStyle,
        Self::Title,
        Self::Cancel,
        Self::Retry,
        Self::Body,
        Self::Output,
        Self::Errors,
        Self::Tasks,
        Self::Top,
        Self::Sections,
        Self::Root,
    ];

    /// Returns the part that shows a section.
    pub(super) fn of(section: Section) -> Self {
        match section {
            Section::Output => Self::Output,
            Section::Errors => Self::Errors,
            Section::Tasks => Self::Tasks,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::RootLayout => "root-layout",
            Self::InnerLayout => "inner",
            Self::FillLayout => "fill",
            Self::ButtonLayout => "button",
            Self::RetryLayout => "retry-layout",
            Self::SectionLayout => "section",
            Self::HtmlStyle => "html-style",
            Self::ButtonStyle => "button-style",
            Self::Title => "title",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Body => "body",
            Self::Output => "output",
            Self::Errors => "errors",
            Self::Tasks => "tasks",
            Self::Top => "top",
            Self::Sections => "sections",
            Self::Root => "root",
        }
    }
}

/// One model and the state the front end has of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) part: Part,
    pub(super) comm_id: String,
    pub(super) state: Map<String, Value>,
}

/// Returns the comm id of a part; the model id is the same.
pub(super) fn comm_id(key: &str, part: Part) -> String {
    format!("prust-{key}-{}", part.name())
}

/// Returns every model with its first state, in the order to open them.
pub(super) fn all(key: &str) -> Vec<Model> {
    Part::ALL
        .iter()
        .map(|&part| Model { part, comm_id: comm_id(key, part), state: first_state(key, part) })
        .collect()
}

fn first_state(key: &str, part: Part) -> Map<String, Value> {
    let model = |part| json!(format!("IPY_MODEL_{}", comm_id(key, part)));
    match part {
        Part::RootLayout => layout(json!({ "width": "100%", "max_width": "960px", "margin": "0" })),
        Part::InnerLayout => layout(json!({ "width": "auto", "margin": "0" })),
        Part::FillLayout => layout(json!({
            "flex": "1 1 auto", "min_width": "0", "width": "auto", "margin": "0",
            "overflow": "hidden",
        })),
        Part::ButtonLayout => layout(json!({ "flex": "0 0 auto", "width": "112px" })),
        Part::RetryLayout => {
            layout(json!({ "flex": "0 0 auto", "width": "128px", "display": "none" }))
        }
        Part::SectionLayout => layout(
            json!({ "width": "auto", "max_height": "320px", "overflow": "auto", "margin": "0" }),
        ),
        Part::HtmlStyle => style("HTMLStyleModel"),
        Part::ButtonStyle => style("ButtonStyleModel"),
        Part::Title => html(model(Part::FillLayout), model(Part::HtmlStyle)),
        Part::Body => html(model(Part::InnerLayout), model(Part::HtmlStyle)),
        Part::Output | Part::Errors | Part::Tasks => {
            html(model(Part::SectionLayout), model(Part::HtmlStyle))
        }
        Part::Cancel => button(
            json!({ "tooltip": "Drop what waits and interrupt what runs", "icon": "stop" }),
            model(Part::ButtonLayout),
            model(Part::ButtonStyle),
        ),
        Part::Retry => button(
            json!({ "tooltip": "Run the failed items again", "icon": "repeat" }),
            model(Part::RetryLayout),
            model(Part::ButtonStyle),
        ),
        Part::Top => boxed(
            "HBox",
            &[model(Part::Title), model(Part::Retry), model(Part::Cancel)],
            model(Part::InnerLayout),
        ),
        Part::Sections => boxed(
            "Accordion",
            &Section::ALL.map(|section| model(Part::of(section))),
            model(Part::InnerLayout),
        ),
        Part::Root => boxed(
            "VBox",
            &[model(Part::Top), model(Part::Body), model(Part::Sections)],
            model(Part::RootLayout),
        ),
    }
}

fn layout(keys: Value) -> Map<String, Value> {
    const BASE: &str = "@jupyter-widgets/base";
    with(keys, [("LayoutModel", BASE), ("LayoutView", BASE)])
}

fn style(name: &str) -> Map<String, Value> {
    const MODULES: [&str; 2] = ["@jupyter-widgets/controls", "@jupyter-widgets/base"];
    with(json!({}), [(name, MODULES[0]), ("StyleView", MODULES[1])])
}

fn html(layout: Value, style: Value) -> Map<String, Value> {
    control("HTML", json!({ "value": "", "layout": layout, "style": style }))
}

fn button(keys: Value, layout: Value, style: Value) -> Map<String, Value> {
    let mut state = control(
        "Button",
        json!({ "description": "", "disabled": false, "layout": layout, "style": style }),
    );
    state.extend(object(keys));
    state
}

fn boxed(kind: &str, children: &[Value], layout: Value) -> Map<String, Value> {
    let mut state = control(kind, json!({ "children": children, "layout": layout }));
    if kind == "Accordion" {
        state.insert("titles".to_owned(), json!([]));
        state.insert("selected_index".to_owned(), Value::Null);
    }
    state.insert("_dom_classes".to_owned(), json!([format!("prust-{}", kind.to_lowercase())]));
    state
}

fn control(kind: &str, keys: Value) -> Map<String, Value> {
    const CONTROLS: &str = "@jupyter-widgets/controls";
    let (model, view) = (format!("{kind}Model"), format!("{kind}View"));
    with(keys, [(&model, CONTROLS), (&view, CONTROLS)])
}

/// Adds the six keys every model needs: name, module and version of model and view. Base and
/// controls have the same version.
fn with(keys: Value, [model, view]: [(&str, &str); 2]) -> Map<String, Value> {
    let mut state = object(json!({
        "_model_name": model.0, "_model_module": model.1, "_model_module_version": "2.0.0",
        "_view_name": view.0, "_view_module": view.1, "_view_module_version": "2.0.0",
    }));
    state.extend(object(keys));
    state
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("a model's keys are written as an object, not as {other}"),
    }
}
