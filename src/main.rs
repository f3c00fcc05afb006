//! temporary
use unsee::{torch::*, watch::Watch};
struct W(u64, String, std::time::Instant, u64);
impl Watch for W {
    fn begin(&mut self, what: &str, total: u64) {
        self.0 = total;
        self.1 = what.into();
        self.2 = std::time::Instant::now();
        self.3 = 0;
        eprintln!("== {what} {total}");
    }
    fn at(&mut self, done: u64, note: &str) {
        if self.3 == 0 && done > 0 {
            self.3 = done;
        }
        if done % 50 == 0 {
            let s = self.2.elapsed().as_secs_f64();
            let rate = (done - self.3.min(done)) as f64 / s;
            eprintln!(
                "{} {done}/{} {note} {s:.0}s eta {:.0}s",
                self.1,
                self.0,
                (self.0 - done.min(self.0)) as f64 / rate.max(1e-9)
            );
        }
    }
    fn end(&mut self) {
        eprintln!("-- {} {:.0}s", self.1, self.2.elapsed().as_secs_f64());
    }
    fn interrupted(&self) -> bool {
        false
    }
}
fn main() {
    keep_memory();
    let a: Vec<String> = std::env::args().collect();
    let recipe = toml::from_str(&std::fs::read_to_string(&a[1]).unwrap()).unwrap();
    let d = Device::CPU;
    unsee::training::miniature::miniature(
        &recipe,
        std::path::Path::new(&a[2]),
        (d, Precision::best(d)),
        &mut W(0, String::new(), std::time::Instant::now(), 0),
    )
    .unwrap();
}
