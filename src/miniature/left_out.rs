//! Styles and objects that a miniature never sees: what a model that never knew a concept draws is
//! what an erasure is held beside.

use super::canvas_images::cells;
use crate::canvas::{Object, Style};

/// Names of what is left out of the canvas.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut<'a> {
    pub(super) styles: &'a [String],
    pub(super) objects: &'a [String],
}

impl LeftOut<'_> {
    pub(super) fn has_style(&self, style: Style) -> bool {
        !self.styles.iter().any(|name| name == style.name())
    }

    pub(super) fn has_object(&self, object: Object) -> bool {
        !self.objects.iter().any(|name| name == object.name())
    }

    /// The numbers of the cells that stay.
    pub(super) fn cells(&self) -> Vec<i64> {
        let numbered = (0..).zip(cells());
        let stay = numbered
            .filter(|(_, (style, object))| self.has_style(*style) && self.has_object(*object));
        stay.map(|(number, _)| number).collect()
    }

    /// Says which of the names the canvas does not know, and whether nothing stays.
    ///
    /// # Errors
    /// The first complaint.
    pub(super) fn check(&self) -> Result<(), String> {
        let styles = Style::ALL.iter().map(|style| style.name()).collect();
        check_names(self.styles, styles, "styles")?;
        let objects = Object::ALL.iter().map(|object| object.name()).collect();
        check_names(self.objects, objects, "objects")
    }
}

fn check_names(names: &[String], all: Vec<&str>, what: &str) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("without_{what} names `{name}`; the canvas knows {}", all.join(", ")));
    }
    let stays = all.iter().any(|name| !names.iter().any(|without| without == name));
    if stays { Ok(()) } else { Err(format!("without_{what} leaves nothing to learn")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_what_is_left_out_are_gone() {
        let (style, object) = (Style::ALL[1].name().to_owned(), Object::ALL[2].name().to_owned());
        let left_out = LeftOut { styles: &[style], objects: &[object] };
        left_out.check().unwrap();
        let width = Object::ALL.len() as i64;
        let cells = left_out.cells();
        assert_eq!(cells.len(), (Style::ALL.len() - 1) * (Object::ALL.len() - 1));
        assert!(cells.iter().all(|cell| cell / width != 1 && cell % width != 2), "{cells:?}");
        let error = LeftOut { styles: &["Cubism".to_owned()], objects: &[] }.check().unwrap_err();
        assert!(error.contains("without_styles names `Cubism`"), "{error}");
    }
}
