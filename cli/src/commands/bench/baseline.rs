//! The earlier result with which a run is compared.

use std::path::PathBuf;

use super::plan::Plan;
use crate::args::BenchArgs;
use crate::exit::Failure;
use crate::results::case::Case;
use crate::results::compare::{Comparison, Tolerance, has_case};
use crate::results::figures::Figures;
use crate::results::{Measurement, read};

pub(super) struct Baseline {
    file: PathBuf,
    results: Vec<Measurement>,
    tolerance: Tolerance,
}

impl Baseline {
    /// Reads it, if there is one, before anything is measured.
    pub(super) fn new(args: &BenchArgs) -> Result<Option<Self>, Failure> {
        let given = &args.tolerance;
        let Some(file) = args.compare.clone() else {
            return match given.tolerance.or(given.latency_tolerance) {
                Some(_) => Err(Failure::usage(
                    "--tolerance and --latency-tolerance need --compare",
                )),
                None => Ok(None),
            };
        };
        let results = read::file(&file)
            .map_err(|text| Failure::usage(format_args!("--compare {}: {text}", file.display())))?;
        Ok(Some(Baseline {
            file,
            results,
            tolerance: args.tolerance.into(),
        }))
    }

    /// Refuses a run that nothing can be compared with. Which stages there are is not known before it.
    pub(super) fn has_case(&self, plan: &Plan) -> Result<(), Failure> {
        has_case(&self.results, &plan.case()).map_err(|text| self.refused(&text))
    }

    pub(super) fn compare(
        &self,
        result: &Measurement,
        runs: &[Figures],
    ) -> Result<Comparison, Failure> {
        let case = Case::of(result);
        Comparison::new(&self.file, &self.results, &case, runs, self.tolerance)
            .map_err(|text| self.refused(&text))
    }

    fn refused(&self, text: &str) -> Failure {
        Failure::usage(format_args!("--compare {}: {text}", self.file.display()))
    }
}
