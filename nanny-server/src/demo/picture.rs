//! A landscape out of a name: the same name is always the same landscape.

use std::fmt::Write as _;

use super::trade::hash;

/// An SVG picture.
pub(super) fn paint(name: &str) -> String {
    let dice = hash(name.trim_end_matches(".svg"));
    let die = |n: usize, sides: u8| u32::from(dice[n % dice.len()] % sides);
    let hue = u32::from(dice[0]) * 360 / 256;
    let night = dice[1].is_multiple_of(3);
    let (above, below) = if night { (12, 35) } else { (62, 86) };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 512 512\" role=\"img\">\
         <defs><linearGradient id=\"sky\" x2=\"0\" y2=\"1\">\
         <stop stop-color=\"hsl({hue} 60% {above}%)\"/>\
         <stop offset=\"1\" stop-color=\"hsl({} 80% {below}%)\"/></linearGradient></defs>\
         <rect width=\"512\" height=\"512\" fill=\"url(#sky)\"/>",
        (hue + 40 + die(2, 60)) % 360,
    );
    if night {
        for star in 0..24 {
            let (x, y) = (die(star, 255) * 2 + die(star + 7, 9), die(star + 3, 230));
            // Writing to a string cannot fail, here and below.
            let _ = write!(
                svg,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"1.6\" fill=\"#fff\" opacity=\".8\"/>"
            );
        }
    }
    let (x, y, r) = (96 + die(3, 255), 110 + die(4, 120), 30 + die(5, 40));
    let sun = if night { "hsl(50 30% 90%)" } else { "hsl(45 95% 75%)" };
    let _ = write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" fill=\"{sun}\"/>");
    for layer in 0..4 {
        hills(&mut svg, layer, &die, (hue + 200) % 360, night);
    }
    svg + "</svg>\n"
}

/// One row of hills; those in front are lower and darker.
fn hills(svg: &mut String, layer: u32, die: &dyn Fn(usize, u8) -> u32, hue: u32, night: bool) {
    let n = 6 + 6 * layer as usize;
    let base = 250 + 62 * layer;
    let height = |step: usize| base + die(n + step, 70) - 35;
    let light = if night { 26 - 5 * layer } else { 64 - 13 * layer };
    let _ = write!(svg, "<path fill=\"hsl({hue} 35% {light}%)\" d=\"M0 512V{}", height(0));
    for step in 1..=4_usize {
        let x = 128 * step;
        let (middle, y) = (x - 64, height(step));
        let _ = write!(svg, "C{middle} {} {middle} {y} {x} {y}", height(step - 1));
    }
    svg.push_str("V512Z\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_a_whole_one() {
        for n in 0..500 {
            let svg = paint(&n.to_string());
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
            assert_eq!(svg.matches("<path").count(), 4);
            assert!(!svg.contains('-') || !svg.contains("=\"-"), "{svg}");
        }
    }

    #[test]
    fn nothing_of_a_name_is_in_its_picture() {
        assert!(!paint("<script>").contains("script"));
    }
}
