//! From SVG to pixels.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

const REGULAR: &[u8] = include_bytes!("../fonts/Roboto-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../fonts/Roboto-Bold.ttf");
/// Pixels for each unit, for screens that are sharp.
const ZOOM: f32 = 1.5;

/// Only the fonts that are in the program: pictures look the same on every machine.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(BOLD.to_vec());
        fonts.set_sans_serif_family("Roboto");
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}

/// The picture as PNG.
///
/// # Errors
/// When it is no SVG.
pub(crate) fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    let options = Options { font_family: "Roboto".into(), fontdb: fonts(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("not a picture")?;
    let size = tree.size();
    let (width, height) = ((size.width() * ZOOM) as u32, (size.height() * ZOOM) as u32);
    let mut pixels = Pixmap::new(width, height).context("a picture without a size")?;
    resvg::render(&tree, Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
    pixels.encode_png().context("cannot write a PNG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_pixels() {
        let picture = |words: &str| {
            png(&format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"20\" \
                 font-family=\"Helvetica, Arial, sans-serif\"><text x=\"5\" y=\"15\">{words}</text></svg>"
            ))
            .unwrap()
        };
        assert!(picture("text").starts_with(b"\x89PNG"));
        assert_ne!(picture("text"), picture(""));
        assert!(png("no picture").is_err());
    }
}
