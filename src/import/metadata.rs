//! One metadata file as a tree of elements with lines. Knows XML and the shape all these files share (a root, fields in
//! any order, lists of parameters), not what the fields mean.
//!
//! The parser's own messages quote what it found, and a malformed file may hold a password, so none is passed on.

use roxmltree::{Document, Error, Node, ParsingOptions};

use super::note::{Notes, Place, shown};

/// Elements and texts of one file; permission sets of large organizations have some ten thousand.
const MOST_NODES: u32 = 1_000_000;

/// An element with its text, or with elements in it.
#[derive(Debug)]
pub(super) struct Element<'f> {
    pub(super) name: String,
    /// Its text without the white space around it.
    pub(super) text: String,
    pub(super) at: Place<'f>,
    pub(super) children: Vec<Element<'f>>,
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<'f> {
    pub(super) text: String,
    pub(super) at: Place<'f>,
}

/// One `…Parameters` element.
#[derive(Clone, Debug)]
pub(super) struct Parameter<'f> {
    /// `parameterType`
    pub(super) kind: String,
    /// `parameterName`
    pub(super) name: String,
    /// `parameterValue`
    pub(super) value: Option<Located<'f>>,
    /// `parameterGroup`
    pub(super) group: Option<String>,
    /// `sequenceNumber`
    pub(super) sequence: Option<u64>,
    /// The element that names another component, such as `certificate`, with its text.
    pub(super) reference: Option<(String, Located<'f>)>,
    /// Where the parameter begins.
    pub(super) at: Place<'f>,
}

/// The fields under the root element `root`; an error becomes a note.
pub(super) fn read<'f>(file: &'f str, text: &str, root: &str, notes: &mut Notes) -> Option<Vec<Element<'f>>> {
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = match Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(error) => {
            // The parser does not say where a declaration is.
            let declaration = text.find("<!DOCTYPE").filter(|_| matches!(error, Error::DtdDetected));
            let line = match declaration.and_then(|at| text.get(..at)) {
                Some(before) => before.matches('\n').count() + 1,
                None => usize::try_from(error.pos().row).unwrap_or(1),
            };
            notes.error(Place { file, line }, fault(&error));
            return None;
        }
    };
    let lines = Lines::new(file, text);
    let top = document.root_element();
    if top.tag_name().name() != root {
        let found = shown(top.tag_name().name());
        notes.error(lines.place(top), format!("the root element is {found}; a file of this name holds `{root}`"));
        return None;
    }
    Some(elements(top).map(|field| element(field, &lines, true)).collect())
}

fn elements<'a, 'input>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

/// Two levels are all there are: what lies deeper shows as an element without a text, and is refused by its name.
fn element<'f>(node: Node<'_, '_>, lines: &Lines<'f>, with_children: bool) -> Element<'f> {
    let text: String = node.children().filter(Node::is_text).filter_map(|text| text.text()).collect();
    let children = match with_children {
        true => elements(node).map(|child| element(child, lines, false)).collect(),
        false => Vec::new(),
    };
    let name = node.tag_name().name().to_owned();
    Element { name, text: text.trim().to_owned(), at: lines.place(node), children }
}

fn fault(error: &Error) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser has some forty ways to say the last one")]
    match error {
        Error::DtdDetected => "the file has a document type declaration; metadata has none, and it is not followed",
        Error::UnexpectedCloseTag(..) => "this is not well-formed XML: an element is closed that is not open",
        Error::UnclosedRootNode | Error::UnexpectedEndOfStream => {
            "this is not well-formed XML: the file ends too early"
        }
        Error::NoRootNode => "the file holds no element",
        Error::UnknownEntityReference(..) | Error::MalformedEntityReference(..) => {
            "this is not well-formed XML: a `&` that begins nothing known; write `&amp;` for `&`"
        }
        Error::NodesLimitReached => "the file holds too many elements",
        _ => "this is not well-formed XML",
    }
}

/// Finds lines by bytes without counting anew for each element.
struct Lines<'f> {
    file: &'f str,
    starts: Vec<usize>,
}

impl<'f> Lines<'f> {
    fn new(file: &'f str, text: &str) -> Self {
        Self { file, starts: text.match_indices('\n').map(|(at, _)| at + 1).collect() }
    }

    fn place(&self, node: Node<'_, '_>) -> Place<'f> {
        let line = self.starts.partition_point(|start| *start <= node.range().start) + 1;
        Place { file: self.file, line }
    }
}

/// What a kind of element may hold.
pub(super) struct Shape {
    /// What messages call the element.
    pub(super) what: &'static str,
    /// Fields that stand once.
    pub(super) fields: &'static [&'static str],
    /// Lists.
    pub(super) lists: &'static [&'static str],
    /// Fields that Salesforce keeps for itself.
    pub(super) reserved: &'static [&'static str],
}

impl Shape {
    /// Says what is unknown, doubled, or not a plain text.
    pub(super) fn check(&self, elements: &[Element<'_>], notes: &mut Notes) {
        for (index, element) in elements.iter().enumerate() {
            let name = element.name.as_str();
            if self.reserved.contains(&name) {
                notes
                    .remark(element.at, format!("{} of {} is reserved by Salesforce: ignored", shown(name), self.what));
                continue;
            }
            let is_list = self.lists.contains(&name);
            if !is_list && !self.fields.contains(&name) {
                notes.error(element.at, format!("{} has no element {}", self.what, shown(name)));
            } else if !is_list && elements.iter().take(index).any(|earlier| earlier.name == name) {
                notes.error(element.at, format!("{} has the element {} twice", self.what, shown(name)));
            } else if !is_list && let Some(child) = element.children.first() {
                notes.error(child.at, format!("{} holds a text and no element {}", shown(name), shown(&child.name)));
            }
        }
    }
}

/// The field of this name.
pub(super) fn field<'a, 'f>(elements: &'a [Element<'f>], name: &str) -> Option<&'a Element<'f>> {
    elements.iter().find(|element| element.name == name)
}

/// The text of a field; none when it is empty.
pub(super) fn text<'f>(elements: &[Element<'f>], name: &str) -> Option<Located<'f>> {
    let element = field(elements, name).filter(|element| !element.text.is_empty())?;
    Some(Located { text: element.text.clone(), at: element.at })
}

/// `true` or `false`, or what holds where the field is absent.
pub(super) fn truth(elements: &[Element<'_>], name: &str, default: bool, notes: &mut Notes) -> bool {
    let Some(element) = field(elements, name) else { return default };
    match element.text.as_str() {
        "true" => true,
        "false" => false,
        other => {
            notes.error(element.at, format!("{} is {}; it is `true` or `false`", shown(name), shown(other)));
            default
        }
    }
}

/// What is known of the parameters of one kind of component.
pub(super) struct Vocabulary {
    /// The elements that hold them.
    pub(super) lists: &'static [&'static str],
    pub(super) shape: Shape,
    /// Elements of a parameter that name other components.
    pub(super) references: &'static [&'static str],
    /// Types that mean something to an importer.
    pub(super) types: &'static [&'static str],
    /// Types that Salesforce keeps for itself: ignored, but mentioned.
    pub(super) reserved: &'static [&'static str],
    /// Types of older lists without a documented meaning.
    pub(super) old: &'static [&'static str],
}

impl Vocabulary {
    /// The parameters whose types mean something. Says what is wrong with the others.
    pub(super) fn read<'f>(&self, elements: &[Element<'f>], notes: &mut Notes) -> Vec<Parameter<'f>> {
        let mut parameters = Vec::new();
        for element in elements.iter().filter(|element| self.lists.contains(&element.name.as_str())) {
            let Some(parameter) = Parameter::read(element, self, notes) else { continue };
            let kind = parameter.kind.as_str();
            let named = format!("`parameterType` {}", shown(kind));
            if self.types.contains(&kind) {
                parameters.push(parameter);
            } else if self.reserved.contains(&kind) {
                notes.remark(parameter.at, format!("{named} is reserved by Salesforce: ignored"));
            } else if self.old.contains(&kind) {
                notes.not_carried_over(parameter.at, format!("{named} has no documented meaning"));
            } else {
                notes.error(parameter.at, format!("{named} is unknown; it is one of {}", self.types.join(", ")));
            }
        }
        parameters
    }
}

impl<'f> Parameter<'f> {
    fn read(element: &Element<'f>, vocabulary: &Vocabulary, notes: &mut Notes) -> Option<Self> {
        let Vocabulary { shape, references, .. } = vocabulary;
        shape.check(&element.children, notes);
        let kind = text(&element.children, "parameterType");
        let name = text(&element.children, "parameterName");
        for (field, found) in [("parameterType", &kind), ("parameterName", &name)] {
            if found.is_none() {
                notes.error(element.at, format!("{} needs the element `{field}`", shape.what));
            }
        }
        let sequence = text(&element.children, "sequenceNumber").and_then(|number| {
            let parsed = number.text.parse().ok();
            if parsed.is_none() {
                let message = format!("`sequenceNumber` is {}; it is a whole number", shown(&number.text));
                notes.error(number.at, message);
            }
            parsed
        });
        let reference = references.iter().find_map(|name| {
            let text = text(&element.children, name)?;
            Some(((*name).to_owned(), text))
        });
        Some(Self {
            kind: kind?.text,
            name: name?.text,
            value: text(&element.children, "parameterValue"),
            group: text(&element.children, "parameterGroup").map(|group| group.text),
            sequence,
            reference,
            at: element.at,
        })
    }

    /// The component that the element `name` refers to.
    pub(super) fn component(&self, name: &str) -> Option<&Located<'f>> {
        self.reference.as_ref().filter(|(element, _)| element == name).map(|(_, component)| component)
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::Notes;
    use super::read;

    #[test]
    fn elements_have_the_lines_they_stand_on() {
        let text = "<?xml version=\"1.0\"?>\n<A>\n  <b> x </b>\n\n  <c><d>y &amp; z</d></c>\n</A>\n";
        let mut notes = Notes::default();
        let fields = read("f", text, "A", &mut notes).unwrap();
        let found: Vec<_> =
            fields.iter().map(|field| (field.name.as_str(), field.text.as_str(), field.at.line)).collect();
        assert_eq!(found, [("b", "x", 3), ("c", "", 5)]);
        assert_eq!(fields[1].children[0].text, "y & z");
    }

    #[test]
    fn what_is_malformed_is_told_without_its_text() {
        for (text, line, part) in [
            ("<A>\n<b>s3cret</c></A>", 2, "well-formed"),
            ("<A>\n\n<b>&s3cret;</b></A>", 3, "&amp;"),
            ("<?xml version=\"1.0\"?>\n<!DOCTYPE A [<!ENTITY s3cret \"x\">]>\n<A/>", 2, "document type"),
            ("<A><b>", 1, "ends too early"),
            ("", 1, ""),
            ("<s3cret/>", 1, "root element"),
        ] {
            let mut notes = Notes::default();
            assert!(read("f", text, "A", &mut notes).is_none(), "{text}");
            let notes = notes.into_sorted();
            assert_eq!((notes.len(), notes[0].line), (1, line), "{text}: {notes:?}");
            assert!(notes[0].message.contains(part), "{text}: {notes:?}");
            assert!(text.starts_with("<s3") || !notes[0].message.contains("s3cret"), "{notes:?}");
        }
    }
}
