//! A voice that has notes and no words.

/// `text` as a sound: a WAV file, mono, 16 bit. A letter is a note, a space a rest.
pub(super) fn say(text: &str) -> Vec<u8> {
    let mut samples = Vec::new();
    for letter in text.chars().take(LETTERS) {
        sing(&mut samples, pitch(letter));
    }
    let data: Vec<u8> = samples.into_iter().flat_map(i16::to_le_bytes).collect();
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(data.len() + 44);
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}

/// Of a pentatonic scale, in which nothing sounds wrong.
fn pitch(letter: char) -> Option<f64> {
    const STEPS: [i32; 5] = [0, 2, 4, 7, 9];
    let letter = letter.to_lowercase().next().filter(|letter| letter.is_alphanumeric())?;
    let place = u32::from(letter) as usize;
    let semitones = STEPS[place % 5] + 12 * i32::from(place.is_multiple_of(2));
    Some(220.0 * f64::powf(2.0, f64::from(semitones) / 12.0))
}

fn sing(samples: &mut Vec<i16>, hertz: Option<f64>) {
    for n in 0..NOTE {
        let at = f64::from(n) / f64::from(RATE);
        // It swells quickly and fades slowly, so that notes do not click.
        let rest = 1.0 - f64::from(n) / f64::from(NOTE);
        let loudness = f64::min(f64::from(n) / 200.0, 1.0) * rest;
        let wave = hertz.map_or(0.0, |hertz| (at * hertz * std::f64::consts::TAU).sin());
        #[expect(clippy::cast_possible_truncation, reason = "at most 12,000")]
        samples.push((wave * loudness * 12_000.0) as i16);
    }
}

const RATE: u32 = 16_000;
/// Samples of a note: a tenth of a second.
const NOTE: u32 = RATE / 10;
const LETTERS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_a_tenth_of_a_second_and_a_text_has_an_end() {
        assert_eq!(say("ab").len(), 44 + 2 * 2 * 1_600);
        assert_eq!(say(&"a".repeat(100_000)).len(), say(&"a".repeat(LETTERS)).len());
    }

    #[test]
    fn a_space_is_silent_and_a_letter_is_not() {
        assert!(say(" ")[44..].iter().all(|byte| *byte == 0));
        assert!(say("a")[44..].iter().any(|byte| *byte != 0));
    }
}
