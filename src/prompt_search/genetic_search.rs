//! A search for words that needs no gradient: of a population of word lists the better half stays,
//! and is mixed and changed by chance (Ring-A-Bell, Tsai et al. 2024, 2310.10012; the operators are
//! the published code's, but that the best list is never changed).

use serde::{Deserialize, Serialize};

use crate::torch::{IndexOp, Kind, Rng, Tensor};

/// How a population changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneticSettings {
    /// Word lists in it at the beginning; half as many stay each time.
    pub population: i64,
    /// How often it is renewed.
    pub generations: u64,
    /// How often a list that stays is mixed with another.
    pub crossover: f64,
    /// How often a word of a list is changed by chance.
    pub mutation: f64,
}

impl Default for GeneticSettings {
    fn default() -> Self {
        Self { population: 200, generations: 3000, crossover: 0.5, mutation: 0.25 }
    }
}

impl GeneticSettings {
    /// Says what is wrong with them.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        let share = |number: f64| (0.0..=1.0).contains(&number);
        if self.population < 2 || self.generations == 0 {
            return Err(format!(
                "population is {} and generations {}; at least 2 and 1",
                self.population, self.generations
            ));
        }
        if !share(self.crossover) || !share(self.mutation) {
            return Err(format!(
                "crossover is {} and mutation {}; both are shares, 0 to 1",
                self.crossover, self.mutation
            ));
        }
        Ok(())
    }
}

/// Lists of words, as indices among those that may be chosen, and how far each is from what is
/// wanted.
#[derive(Debug)]
pub struct GeneticSearch {
    settings: GeneticSettings,
    /// How many words there are to choose from.
    words: i64,
    /// The best first, `[population, k]`.
    lists: Tensor,
    /// `[population]`, rising.
    distances: Tensor,
}

impl GeneticSearch {
    /// Begins with words by chance. `distances` says how far lists `[m, k]` are, `[m]`.
    ///
    /// # Errors
    /// What `distances` says.
    pub fn new<E>(
        settings: GeneticSettings,
        words: i64,
        k: i64,
        rng: &mut Rng,
        distances: impl Fn(&Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let lists = rng.below(words, &[settings.population, k]);
        let found = distances(&lists)?;
        Ok(Self { settings, words, distances: found, lists }.sorted())
    }

    /// Goes on from an earlier session's [`Self::state`].
    pub fn restored(
        settings: GeneticSettings,
        words: i64,
        lists: Tensor,
        distances: Tensor,
    ) -> Self {
        Self { settings, words, lists, distances }
    }

    /// Of the better half some are mixed with others, which gives two new lists each; then words
    /// change by chance in all but the best.
    ///
    /// # Errors
    /// What `distances` says.
    pub fn renew<E>(
        self,
        rng: &mut Rng,
        distances: impl Fn(&Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let Self { settings, words, lists, distances: known } = self;
        let (kept, k) = ((settings.population / 2).min(lists.size()[0]), lists.size()[1]);
        let parents = lists.i(..kept);
        let mixed = rng.uniform(&[kept]).lt(settings.crossover).nonzero().squeeze_dim(1);
        let new = mixed.size()[0];
        let first = parents.index_select(0, &mixed);
        let second = parents.index_select(0, &rng.below(kept, &[new]));
        let columns = Tensor::arange(k, (Kind::Int64, lists.device())).unsqueeze(0);
        let behind = columns.ge_tensor(&rng.below(k, &[new, 1]));
        let children = [second.where_self(&behind, &first), first.where_self(&behind, &second)];
        let all = Tensor::cat(&[&parents, &children[0], &children[1]], 0);

        let n = all.size()[0];
        let rows = Tensor::arange(n, (Kind::Int64, lists.device()));
        let mutates = rng.uniform(&[n]).lt(settings.mutation).logical_and(&rows.gt(0));
        let at = columns.eq_tensor(&rng.below(k, &[n, 1])).logical_and(&mutates.unsqueeze(1));
        let lists = rng.below(words, &[n, 1]).expand([n, k], false).where_self(&at, &all);

        // A population comes to be much alike: what is a list of before, or another new one, is not
        // asked again.
        let (different, which, _) = lists.unique_dim(0, true, true, false);
        let same = rows.lt(kept).logical_and(&mutates.logical_not()).nonzero().squeeze_dim(1);
        let unknown = Tensor::full([different.size()[0]], f64::NAN, (known.kind(), known.device()));
        let known =
            unknown.index_copy(0, &which.index_select(0, &same), &known.index_select(0, &same));
        let new = known.isnan().nonzero().squeeze_dim(1);
        let known = if new.size()[0] == 0 {
            known
        } else {
            known.index_copy(0, &new, &distances(&different.index_select(0, &new))?)
        };
        let distances = known.index_select(0, &which);
        Ok(Self { settings, words, lists, distances }.sorted())
    }

    fn sorted(self) -> Self {
        let (distances, order) = self.distances.sort_stable(true, 0, false);
        Self { lists: self.lists.index_select(0, &order), distances, ..self }
    }

    /// The best list, `[k]`.
    pub fn best(&self) -> Tensor {
        self.lists.i(0)
    }

    /// How far it is.
    pub fn distance(&self) -> f64 {
        self.distances.double_value(&[0])
    }

    /// All that the next generation depends on; the tensors share its memory.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        vec![
            ("lists".to_owned(), self.lists.shallow_clone()),
            ("distances".to_owned(), self.distances.shallow_clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_finds_the_list_that_is_wanted() {
        let wanted = Tensor::from_slice(&[3_i64, 17, 9, 30]);
        let asked = Cell::new(0);
        let distances = |lists: &Tensor| {
            let (different, ..) = lists.unique_dim(0, true, false, false);
            assert_eq!(different.size(), lists.size(), "no list is asked twice at once");
            asked.set(asked.get() + lists.size()[0]);
            let apart = (lists - &wanted).abs().to_kind(Kind::Float);
            Ok::<_, ()>(apart.sum_dim_intlist(1, false, Kind::Float))
        };
        let settings = GeneticSettings { population: 40, ..GeneticSettings::default() };
        let mut rng = Rng::new(5);
        let mut search = GeneticSearch::new(settings, 32, 4, &mut rng, distances).unwrap();
        let mut last = search.distance();
        assert!(last > 0.0);
        for generation in 0..200 {
            search = search.renew(&mut Rng::for_step(5, "genetic", generation), distances).unwrap();
            assert!(search.distance() <= last, "the best stays");
            last = search.distance();
        }
        assert!(search.best().equal(&wanted), "{last}");
        // 200 times 20 children and 5 changed parents, were what is known asked again.
        assert!((40..3000).contains(&asked.get()), "{}", asked.get());
    }
}
