//! Reading the XML that query services answer with.
//!
//! Owns the few steps through a tree that EC2's answers need: a child's text, the items of a set. Namespaces are
//! ignored. Called by `ec2` and `account`.

use roxmltree::{Document, Node};

use super::error::{Error, Kind};

/// The answer as a tree.
pub(super) fn parse<'a>(action: &'static str, text: &'a str) -> Result<Document<'a>, Error> {
    Document::parse(text).map_err(|error| {
        Error::new(
            action,
            Kind::Answer,
            format!("no XML in the answer: {error}"),
        )
    })
}

/// Whether it is a document to its end.
pub(super) fn is_whole(text: &str) -> bool {
    Document::parse(text).is_ok()
}

/// The first descendant of that name.
pub(super) fn find<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.descendants()
        .find(|node| node.is_element() && node.tag_name().name() == name)
}

/// The text along a path of children; empty where there is none.
pub(super) fn text<'a>(node: Node<'a, '_>, path: &[&str]) -> &'a str {
    let mut at = node;
    for name in path {
        match at.children().find(|child| child.tag_name().name() == *name) {
            Some(child) => at = child,
            None => return "",
        }
    }
    at.text().unwrap_or_default().trim()
}

/// The members of a list: EC2 names them `item`, IAM `member`.
pub(super) fn items<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    list: &'a str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children()
        .filter(move |child| child.tag_name().name() == list)
        .flat_map(|set| set.children())
        .filter(|child| matches!(child.tag_name().name(), "item" | "member"))
}

/// Code and message of an error, in any of the three shapes that query services and S3 use.
pub(super) fn error(text: &str) -> Option<(String, String)> {
    let document = Document::parse(text).ok()?;
    let code = find(document.root(), "Code")?.text()?.trim().to_owned();
    let message = find(document.root(), "Message")
        .and_then(|node| node.text())
        .unwrap_or_default();
    Some((code, message.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_without_namespaces() {
        let answer = r#"<R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><set><item><a><b> x </b></a></item><item/></set></R>"#;
        let document = parse("ec2:DescribeInstances", answer).unwrap();
        let items: Vec<_> = items(document.root_element(), "set").collect();
        assert_eq!(items.len(), 2);
        assert_eq!(text(items[0], &["a", "b"]), "x");
        assert_eq!(text(items[1], &["a", "b"]), "");
    }

    #[test]
    fn errors_of_ec2_and_iam() {
        let ec2 = "<Response><Errors><Error><Code>A.B</Code><Message>m</Message></Error></Errors></Response>";
        assert_eq!(error(ec2), Some(("A.B".to_owned(), "m".to_owned())));
        let iam = "<ErrorResponse><Error><Type>Sender</Type><Code>C</Code></Error></ErrorResponse>";
        assert_eq!(error(iam), Some(("C".to_owned(), String::new())));
        let spaced = "<Response>\n <Errors>\n  <Error>\n   <Code> A.B </Code>\n   <Message>a &lt; b</Message></Error></Errors></Response>";
        assert_eq!(error(spaced), Some(("A.B".to_owned(), "a < b".to_owned())));
        assert_eq!(error("<html>"), None);
        assert!(is_whole("<a><b/></a>") && !is_whole("<a><b>"));
    }
}
