//! A stamp says that a step is finished and from which inputs, so that changed inputs redo it.

use std::{fs, path::PathBuf};

use crate::{
    failure::{Doing as _, Result},
    places::Places,
};

/// One step's stamp.
pub struct Stamp {
    path: PathBuf,
    inputs: String,
}

impl Stamp {
    /// `inputs` is any text that changes when the step has to run again.
    pub fn new(places: &Places, step: &str, inputs: impl Into<String>) -> Self {
        Self { path: places.dev.join("stamps").join(step), inputs: inputs.into() }
    }

    pub fn is_fresh(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|found| found == self.inputs)
    }

    /// To be called last: a step that died half-way has no stamp.
    pub fn set(&self) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
        }
        fs::write(&self.path, &self.inputs).doing(format!("write {}", self.path.display()))
    }
}
