//! The judge is judged: its accuracy on pictures whose truth is known, how well its confidence is
//! calibrated, and what its errors mean for UA.

use serde::{Deserialize, Serialize};

use super::interval::wilson_of;
use super::{AnswerSet, Domain, Error, Interval, TargetClass, wilson};

/// What is known about a judge in one domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeAccuracy {
    /// Style or object.
    pub domain: Domain,
    /// Share of pictures named rightly.
    pub accuracy: f64,
    /// Interval of the accuracy.
    pub low: f64,
    /// Interval of the accuracy.
    pub high: f64,
    /// Pictures named rightly.
    pub hits: usize,
    /// Pictures.
    pub n: usize,
    /// The worst style × object cell.
    pub worst_cell: (String, f64),
    /// The temperature that minimises the cross entropy.
    pub temperature: f64,
    /// Expected calibration error over 15 bins, before and after the temperature.
    pub ece: [f64; 2],
    /// Brier score after the temperature.
    pub brier: f64,
}

/// A judge's answers for pictures whose truth is known.
#[derive(Debug, Clone)]
pub struct Reference {
    style: Vec<ReferenceLogits>,
    object: Vec<ReferenceLogits>,
    styles: Vec<String>,
    objects: Vec<String>,
}

#[derive(Debug, Clone)]
struct ReferenceLogits {
    truth: usize,
    cell: usize,
    logits: Vec<f32>,
}

impl ReferenceLogits {
    fn named(&self) -> usize {
        argmax(&self.logits)
    }
}

/// The class with the largest logit, the first of equals; 0 where there is none.
pub fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// A picture whose truth is known, and what the judge said of it.
#[derive(Debug, Clone, Copy)]
pub struct KnownPicture<'a> {
    /// Its true style.
    pub style: &'a str,
    /// Its true object.
    pub object: &'a str,
    /// The judge's logits of all styles.
    pub style_logits: &'a [f32],
    /// The judge's logits of all objects.
    pub object_logits: &'a [f32],
}

impl Reference {
    /// From pictures whose truth is known.
    ///
    /// # Errors
    /// A truth that the judge was not asked about.
    pub fn new<'a>(
        set: &AnswerSet,
        known: impl IntoIterator<Item = KnownPicture<'a>>,
    ) -> Result<Self, Error> {
        let mut reference = Self {
            style: Vec::new(),
            object: Vec::new(),
            styles: set.styles.clone(),
            objects: set.objects.clone(),
        };
        let index = |classes: &[String], name: &str| {
            classes
                .iter()
                .position(|class| class == name)
                .ok_or_else(|| Error::Unknown(format!("the judge was not asked about `{name}`")))
        };
        for picture in known {
            let s = index(&set.styles, picture.style)?;
            let o = index(&set.objects, picture.object)?;
            let cell = s * set.objects.len() + o;
            reference.style.push(ReferenceLogits {
                truth: s,
                cell,
                logits: picture.style_logits.to_vec(),
            });
            reference.object.push(ReferenceLogits {
                truth: o,
                cell,
                logits: picture.object_logits.to_vec(),
            });
        }
        Ok(reference)
    }

    fn known(&self, domain: Domain) -> &[ReferenceLogits] {
        match domain {
            Domain::Style => &self.style,
            Domain::Object => &self.object,
        }
    }

    /// Accuracy and calibration in a domain.
    pub fn judging(&self, domain: Domain) -> JudgeAccuracy {
        let known = self.known(domain);
        let hits = known.iter().filter(|k| k.named() == k.truth).count();
        let interval = wilson(hits, known.len());
        let mut cells = vec![(0_usize, 0_usize); self.styles.len() * self.objects.len()];
        for k in known {
            cells[k.cell].0 += usize::from(k.named() == k.truth);
            cells[k.cell].1 += 1;
        }
        let worst = cells
            .iter()
            .enumerate()
            .filter(|(_, (_, n))| *n > 0)
            .map(|(i, &(hits, n))| (i, hits as f64 / n as f64))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let worst_cell = worst.map_or_else(
            || (String::new(), 0.0),
            |(i, share)| {
                let (s, o) = (i / self.objects.len(), i % self.objects.len());
                (format!("{} × {}", self.styles[s], self.objects[o]), share)
            },
        );
        let temperature = fit_temperature(known);
        JudgeAccuracy {
            domain,
            accuracy: hits as f64 / known.len().max(1) as f64,
            low: interval.low,
            high: interval.high,
            hits,
            n: known.len(),
            worst_cell,
            temperature,
            ece: [calibration_error(known, 1.0), calibration_error(known, temperature)],
            brier: brier(known, temperature),
        }
    }

    /// UA corrected for the judge's own errors (Rogan & Gladen 1978): with sensitivity Se and
    /// specificity Sp for the target, a rate q of pictures called the target means p = (q + Sp - 1)
    /// / (Se + Sp - 1) that show it; UA = 1 - p. `None` where the judge knows too little (Se + Sp -
    /// 1 < ½).
    pub fn corrected(
        &self,
        target: &TargetClass,
        called: usize,
        n: usize,
    ) -> Option<(f64, Interval)> {
        let classes = match target.domain {
            Domain::Style => &self.styles,
            Domain::Object => &self.objects,
        };
        let class = classes.iter().position(|name| *name == target.name)?;
        let (positives, negatives): (Vec<&ReferenceLogits>, Vec<&ReferenceLogits>) =
            self.known(target.domain).iter().partition(|k| k.truth == class);
        if positives.is_empty() || negatives.is_empty() || n == 0 {
            return None;
        }
        let share = |of: &[&ReferenceLogits], yes: bool| {
            of.iter().filter(|k| (k.named() == class) == yes).count() as f64 / of.len() as f64
        };
        let (se, sp) = (share(&positives, true), share(&negatives, false));
        let youden = se + sp - 1.0;
        if youden < 0.5 {
            return None;
        }
        let q = called as f64 / n as f64;
        let p = ((q + sp - 1.0) / youden).clamp(0.0, 1.0);
        // Wilson's intervals of the three shares, added in squares (Newcombe 1998): a share of 0 or
        // 1 of a few pictures is none that is known exactly.
        let ends = |share: f64, n: usize| {
            let Interval { low, high } = wilson_of(share, n);
            [share - low, high - share]
        };
        let (of_q, of_se, of_sp) =
            (ends(q, n), ends(se, positives.len()), ends(sp, negatives.len()));
        let half = |q: f64, se: f64, sp: f64| {
            (q.powi(2) + (p * se).powi(2) + ((1.0 - p) * sp).powi(2)).sqrt() / youden
        };
        // A larger q is more that shows it; a larger Se or Sp, less of what was called so for each.
        let (fewer, more) = (half(of_q[0], of_se[1], of_sp[0]), half(of_q[1], of_se[0], of_sp[1]));
        let ua = 1.0 - p;
        Some((ua, Interval { low: (ua - more).max(0.0), high: (ua + fewer).min(1.0) }))
    }
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|&l| (f64::from(l - top) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Golden-section search over ln T.
fn fit_temperature(known: &[ReferenceLogits]) -> f64 {
    let loss = |ln_t: f64| -> f64 {
        known.iter().map(|k| -softmax(&k.logits, ln_t.exp())[k.truth].max(1e-12).ln()).sum()
    };
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let (mut low, mut high) = (-4.0, 4.0);
    for _ in 0..40 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    f64::midpoint(low, high).exp()
}

/// Guo et al. 2017, 15 bins.
fn calibration_error(known: &[ReferenceLogits], temperature: f64) -> f64 {
    let mut bins = [(0.0_f64, 0.0_f64, 0_usize); 15];
    for k in known {
        let named = k.named();
        let confidence = softmax(&k.logits, temperature)[named];
        let bin = &mut bins[((confidence * 15.0) as usize).min(14)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(named == k.truth));
        bin.2 += 1;
    }
    bins.iter().map(|(confidence, right, _)| (confidence - right).abs()).sum::<f64>()
        / known.len().max(1) as f64
}

fn brier(known: &[ReferenceLogits], temperature: f64) -> f64 {
    known
        .iter()
        .map(|k| {
            softmax(&k.logits, temperature)
                .iter()
                .enumerate()
                .map(|(i, p)| (p - f64::from(u8::from(i == k.truth))).powi(2))
                .sum::<f64>()
        })
        .sum::<f64>()
        / known.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(wrong: usize) -> Reference {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let set =
            AnswerSet { styles: names(&["A", "B"]), objects: names(&["X", "Y"]), seeds: vec![1] };
        let logits = [[3.0_f32, 0.0], [0.0_f32, 3.0]];
        let known: Vec<_> = (0..200)
            .map(|i| {
                let style = i % 2;
                let named = if i < wrong { 1 - style } else { style };
                KnownPicture {
                    style: ["A", "B"][style],
                    object: "X",
                    style_logits: &logits[named],
                    object_logits: &logits[0],
                }
            })
            .collect();
        Reference::new(&set, known).unwrap()
    }

    #[test]
    fn accuracy_and_calibration() {
        let judging = reference(20).judging(Domain::Style);
        assert_eq!((judging.hits, judging.n), (180, 200));
        assert_eq!(judging.worst_cell.1, 0.9);
        // Confidence should be 0.9: σ(3 / T) = 0.9
        assert!((judging.temperature - 3.0 / 9.0_f64.ln()).abs() < 1e-3, "{judging:?}");
        assert!(judging.ece[1] < 1e-3 && judging.ece[0] > 0.05);
    }

    /// The card's example: Se = 0.70, Sp = 0.98, q = 0.40 gives UA 0.44, not 0.60.
    #[test]
    fn corrected_for_the_judge_s_errors() {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let set = AnswerSet { styles: names(&["A", "B"]), objects: names(&["X"]), seeds: vec![1] };
        let (a, b) = ([1.0_f32, 0.0], [0.0_f32, 1.0]);
        let o = [1.0_f32];
        let mut known = Vec::new();
        for i in 0..100 {
            let mut add = |style, style_logits| {
                known.push(KnownPicture { style, object: "X", style_logits, object_logits: &o });
            };
            add("A", if i < 70 { &a[..] } else { &b[..] });
            add("B", if i < 98 { &b[..] } else { &a[..] });
        }
        let reference = Reference::new(&set, known).unwrap();
        let (ua, interval) = reference.corrected(&"style:A".parse().unwrap(), 40, 100).unwrap();
        assert!((ua - 0.441).abs() < 1e-3, "{ua}");
        assert!(interval.low < ua && ua < interval.high);
    }
}
