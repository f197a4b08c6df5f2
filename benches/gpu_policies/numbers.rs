//! Means, and how sure they are.

use std::fmt;

/// One number for each seed.
#[derive(Debug, Clone)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        Self(values.collect())
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// Half of the interval that holds the true mean in 95 of 100 cases.
    fn half_interval(&self) -> f64 {
        let (mean, count) = (self.mean(), self.0.len() as f64);
        let squares: f64 = self.0.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        // Student's t, near enough for 20 and more.
        (1.96 + 2.5 / (count - 1.0).max(1.0)) * deviation / count.sqrt()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(f, "{:.digits$} ± {:.digits$}", self.mean(), self.half_interval())
    }
}
