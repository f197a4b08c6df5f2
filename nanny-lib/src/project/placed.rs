//! Projects that were placed on certain GPUs: how the choice reaches what runs.
//!
//! ```text
//! let gpus = PlacedGpu::of(&placement, &readings);
//! let Placed { project, notices } = project.placed_on(&gpus);   // plan with this one
//! labels::placement_of(&container)                              // where a container was placed
//! ```
//!
//! The parts of a placed project are what the files say; [`PlacedGpu`]s go into what a container is
//! made from only when that is made, and into no hash of the files. So a container drifts if its
//! files changed, wherever it was placed. One that does not run and was placed elsewhere, or never,
//! is made anew when its part is brought up; one that runs stays as it is.
//!
//! | the part | gets the GPUs by |
//! |---|---|
//! | requests devices | one request for exactly these |
//! | requests CDI devices | their qualified names |
//! | has the runtime `nvidia`, or says `NVIDIA_VISIBLE_DEVICES=all` | `NVIDIA_VISIBLE_DEVICES` |
//! | has the device `/dev/kfd` | `ROCR_VISIBLE_DEVICES` |
//! | is a plain command | `CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES` |
//!
//! A choice that the files themselves make by a variable is never overridden: it stays, with a
//! notice if it is another one.

use super::{Part, Project, labels};
use crate::backend::{ContainerSpec, GpuDevices};
use crate::gpu::{GpuReading, GpuVendor, Placement};
use crate::name::GpuId;

/// A GPU that a project was placed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlacedGpu {
    /// Which.
    pub id: GpuId,
    /// Who made it.
    pub vendor: GpuVendor,
    /// The number that people know it by.
    pub index: Option<u32>,
    /// The name by which the Container Device Interface knows it.
    pub cdi: Option<String>,
    /// What the service is charged there, in MiB.
    pub mib: u64,
}

impl PlacedGpu {
    /// A GPU of which nothing else is known.
    #[must_use]
    pub fn new(id: GpuId, vendor: GpuVendor, mib: u64) -> Self {
        Self { id, vendor, index: None, cdi: None, mib }
    }

    /// The GPUs of a placement, with what `readings` know of them.
    #[must_use]
    pub fn of(placement: &Placement, readings: &[GpuReading]) -> Vec<Self> {
        let known = |id: &GpuId| readings.iter().find(|reading| reading.id == *id);
        let placed = placement.mib.iter().map(|(id, mib)| match known(id) {
            Some(reading) => Self {
                index: reading.index,
                cdi: reading.cdi.clone(),
                ..Self::new(id.clone(), reading.vendor, *mib)
            },
            None => Self::new(id.clone(), GpuVendor::Declared, *mib),
        });
        placed.collect()
    }

    /// What engines and programs call it: its UUID, or its number if it has none.
    fn name(&self) -> Option<String> {
        let id = self.id.as_str();
        if id.starts_with("GPU-") || id.starts_with("MIG-") {
            return Some(id.to_owned());
        }
        self.index.map(|index| index.to_string())
    }

    fn is_of(&self, vendor: GpuVendor) -> bool {
        self.vendor == vendor || self.vendor == GpuVendor::Declared
    }
}

/// A project, placed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// What to plan with.
    pub project: Project,
    /// Where the files do not let the choice pass, for people to read: a sentence each.
    pub notices: Vec<String>,
}

impl Project {
    /// The same, on exactly these GPUs; on whichever its files say, if there are none.
    ///
    /// Parts that ask for no GPU are left as they are. If none does, the choice cannot be passed on:
    /// then all are labelled with it, and a notice says so.
    #[must_use]
    pub fn placed_on(&self, gpus: &[PlacedGpu]) -> Placed {
        let mut project = self.clone();
        let mut notices = Vec::new();
        let mut asks = false;
        for (key, part) in &mut project.parts {
            part.gpus.clear();
            let placing = Placing::new(key, gpus);
            if !gpus.is_empty() && placing.asks(&part.spec) {
                notices.extend(placing.pass(&mut part.spec.clone()));
                part.gpus = gpus.to_vec();
                asks = true;
            }
        }
        if !asks && !gpus.is_empty() {
            for part in project.parts.values_mut() {
                part.gpus = gpus.to_vec();
            }
            let notice = "its Compose file asks for no GPU: the placement cannot be passed on";
            notices.push(notice.to_owned());
        }
        Placed { project, notices }
    }
}

impl Part {
    /// Passes the GPUs on that it was placed on, to what its container is made from.
    pub(super) fn pass_gpus(&self, spec: &mut ContainerSpec) {
        if self.gpus.is_empty() {
            return;
        }
        let placing = Placing::new("", &self.gpus);
        if placing.asks(spec) {
            placing.pass(spec);
        }
        let placement =
            Placement { mib: self.gpus.iter().map(|gpu| (gpu.id.clone(), gpu.mib)).collect() };
        spec.labels.insert(labels::PLACEMENT.to_owned(), labels::placement(&placement));
    }
}

/// By which the runtime `nvidia` is told which GPUs to pass into a container.
const NVIDIA: &str = "NVIDIA_VISIBLE_DEVICES";
/// By which programs choose among the GPUs that they see.
const CUDA: &str = "CUDA_VISIBLE_DEVICES";
const HIP: &str = "HIP_VISIBLE_DEVICES";
const ROCR: &str = "ROCR_VISIBLE_DEVICES";
/// By which CUDA counts: left alone, it begins with the fastest.
const ORDER: &str = "CUDA_DEVICE_ORDER";
/// By which AMD's compute stack is reached.
const KFD: &str = "/dev/kfd";

/// One part, about to be placed.
struct Placing<'a> {
    part: &'a str,
    gpus: &'a [PlacedGpu],
}

impl<'a> Placing<'a> {
    fn new(part: &'a str, gpus: &'a [PlacedGpu]) -> Self {
        Self { part, gpus }
    }

    /// Whether what is made from `spec` gets a GPU, as far as that can be told from it.
    fn asks(&self, spec: &ContainerSpec) -> bool {
        // A command has no words for it: whose service needs a GPU is asking.
        is_command(spec)
            || spec.gpus.iter().any(asks_for_gpu)
            || is_told_by_variable(spec)
            || spec.devices.iter().any(|device| device.host == KFD || is_nvidia_node(&device.host))
    }

    /// Passes the GPUs on, and says where that cannot be done.
    fn pass(&self, spec: &mut ContainerSpec) -> Vec<String> {
        let mut notices = Vec::new();
        if is_command(spec) {
            self.command(spec, &mut notices);
            return notices;
        }
        // What the variable says is what its image says, unless the file does.
        if is_told_by_variable(spec) {
            match chosen(spec, NVIDIA) {
                None | Some("all") => {
                    if let Some(names) = self.names(GpuVendor::Nvidia, NVIDIA, &mut notices) {
                        set(spec, NVIDIA, names.join(","));
                    }
                }
                Some(own) if self.is_choice(own) => {}
                Some(_) => notices.push(self.stays(NVIDIA)),
            }
        }
        if spec.gpus.iter().any(asks_for_gpu) {
            self.requests(spec, &mut notices);
        }
        if spec.devices.iter().any(|device| device.host == KFD) {
            self.rocm(spec, &mut notices);
        } else {
            // Within the container, programs count only what it got.
            let hides = |name: &&&str| chosen(spec, name).is_some_and(|own| !self.is_among(own));
            notices.extend([CUDA, HIP].iter().filter(hides).map(|name| self.stays(name)));
        }
        if spec.devices.iter().any(|device| is_nvidia_node(&device.host)) {
            notices.push(format!(
                "part '{}' has GPUs of NVIDIA among its 'devices', which are left as they are: the \
                 placement cannot be passed on; reserve them with 'gpus' instead",
                self.part
            ));
        }
        notices
    }

    /// A plain command sees every GPU, and is asked to use these.
    fn command(&self, spec: &mut ContainerSpec, notices: &mut Vec<String>) {
        let own = [CUDA, HIP, ROCR].into_iter().find(|name| chosen(spec, name).is_some());
        if let Some(name) = own {
            // With a request beside the variable, its backend refuses it: nobody can tell who is meant.
            let is_same = chosen(spec, name).is_some_and(|own| self.is_choice(own));
            if spec.gpus.is_empty() && !is_same {
                notices.push(self.stays(name));
            }
            return;
        }
        for (variable, vendor) in [(CUDA, GpuVendor::Nvidia), (ROCR, GpuVendor::Amd)] {
            // What was declared by hand is taken to be what most people have.
            let is_meant = |gpu: &PlacedGpu| {
                gpu.vendor == vendor
                    || (vendor == GpuVendor::Nvidia && gpu.vendor == GpuVendor::Declared)
            };
            let gpus: Vec<_> = self.gpus.iter().filter(|gpu| is_meant(gpu)).collect();
            if gpus.is_empty() {
                continue;
            }
            let Some(names) = self.named(&gpus, notices) else { continue };
            set(spec, variable, names.join(","));
            if variable == CUDA && chosen(spec, ORDER).is_none() {
                set(spec, ORDER, "PCI_BUS_ID".to_owned());
            }
            spec.gpus.clear();
        }
    }

    /// All requests for GPUs become one, for exactly these.
    fn requests(&self, spec: &mut ContainerSpec, notices: &mut Vec<String>) {
        let (gpus, mut requests): (Vec<_>, Vec<_>) =
            std::mem::take(&mut spec.gpus).into_iter().flat_map(apart).partition(asks_for_gpu);
        let mut gpus = gpus.into_iter();
        let Some(mut wanted) = gpus.next() else { return };
        match self.requested(&wanted, notices) {
            Some(names) => {
                gpus.for_each(|other| join(&mut wanted, other));
                (wanted.count, wanted.device_ids) = (None, names);
                requests.push(wanted);
            }
            None => requests.extend(std::iter::once(wanted).chain(gpus)),
        }
        spec.gpus = requests;
    }

    /// What `request` is to name.
    fn requested(&self, request: &GpuDevices, notices: &mut Vec<String>) -> Option<Vec<String>> {
        let what = format!("the driver '{}'", request.driver);
        match request.driver.as_str() {
            "cdi" => {
                let kind = request.device_ids.iter().find_map(|name| gpu_kind(name));
                self.qualified(kind.unwrap_or(NVIDIA_CDI), notices)
            }
            "amd" => self.names(GpuVendor::Amd, &what, notices),
            "nvidia" => self.names(GpuVendor::Nvidia, &what, notices),
            _ => self.named(&self.gpus.iter().collect::<Vec<_>>(), notices),
        }
    }

    fn rocm(&self, spec: &mut ContainerSpec, notices: &mut Vec<String>) {
        let own = [ROCR, HIP, CUDA].into_iter().find_map(|name| Some((name, chosen(spec, name)?)));
        match own {
            None => {
                if let Some(names) = self.names(GpuVendor::Amd, KFD, notices) {
                    set(spec, ROCR, names.join(","));
                }
            }
            Some((_, own)) if self.is_choice(own) => {}
            Some((name, _)) => notices.push(self.stays(name)),
        }
    }

    /// What the GPUs are called, if what asks for them can have them: they must be of that vendor.
    fn names(&self, vendor: GpuVendor, by: &str, notices: &mut Vec<String>) -> Option<Vec<String>> {
        if let Some(gpu) = self.gpus.iter().find(|gpu| !gpu.is_of(vendor)) {
            notices.push(format!(
                "part '{}' asks for GPUs by {by}, which cannot give it {}: the placement cannot be \
                 passed on; name the right ones with 'gpus.devices' in the manifest",
                self.part, gpu.id
            ));
            return None;
        }
        self.named(&self.gpus.iter().collect::<Vec<_>>(), notices)
    }

    fn named(&self, gpus: &[&PlacedGpu], notices: &mut Vec<String>) -> Option<Vec<String>> {
        let names = gpus.iter().map(|gpu| gpu.name().ok_or(&gpu.id));
        match names.collect::<Result<Vec<_>, _>>() {
            Ok(names) => Some(names),
            Err(id) => {
                notices.push(format!(
                    "{id} has neither a UUID nor a number: part '{}' cannot be told to use it",
                    self.part
                ));
                None
            }
        }
    }

    /// The names of the Container Device Interface; `kind` is of what has no name of its own.
    fn qualified(&self, kind: &str, notices: &mut Vec<String>) -> Option<Vec<String>> {
        let names = self.named(&self.gpus.iter().collect::<Vec<_>>(), notices)?;
        let named = self.gpus.iter().zip(names).map(|(gpu, name)| match (&gpu.cdi, gpu.vendor) {
            (Some(cdi), _) => cdi.clone(),
            (None, GpuVendor::Nvidia) => format!("{NVIDIA_CDI}={name}"),
            (None, GpuVendor::Amd) => format!("{AMD_CDI}={name}"),
            (None, GpuVendor::Declared) => format!("{kind}={name}"),
        });
        Some(named.collect())
    }

    /// Whether `own`, a choice among all GPUs, is these and no others.
    fn is_choice(&self, own: &str) -> bool {
        let words: Vec<_> = own.split(',').map(str::trim).collect();
        let is = |gpu: &PlacedGpu, word: &str| {
            gpu.name().is_some_and(|name| name == word)
                || gpu.index.is_some_and(|index| index.to_string() == word)
        };
        words.len() == self.gpus.len()
            && self.gpus.iter().all(|gpu| words.iter().any(|word| is(gpu, word)))
    }

    /// Whether `own` is a choice among these GPUs alone, as they are counted where there are no
    /// others.
    fn is_among(&self, own: &str) -> bool {
        let known = |word: &str| match word.parse::<usize>() {
            Ok(index) => index < self.gpus.len(),
            Err(_) => self.gpus.iter().any(|gpu| gpu.name().is_some_and(|name| name == word)),
        };
        own.split(',').map(str::trim).all(known)
    }

    fn stays(&self, variable: &str) -> String {
        let gpus: Vec<_> = self.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        format!(
            "part '{}' sets {variable} itself, which is left as it is; it was placed on {}: take the \
             variable out, or name the same GPUs with 'gpus.devices' in the manifest",
            self.part,
            gpus.join(", ")
        )
    }
}

const NVIDIA_CDI: &str = "nvidia.com/gpu";
const AMD_CDI: &str = "amd.com/gpu";

fn is_command(spec: &ContainerSpec) -> bool {
    spec.image.is_none()
}

/// Whether a request is one for GPUs, and not for some other device.
fn asks_for_gpu(request: &GpuDevices) -> bool {
    match request.driver.as_str() {
        "cdi" => request.device_ids.iter().any(|name| gpu_kind(name).is_some()),
        "nvidia" | "amd" => true,
        // A plain command's request says nothing but which.
        "" if request.capabilities.is_empty() => true,
        _ => request.capabilities.iter().any(|what| what == "gpu"),
    }
}

/// The kind of a qualified name, if that is one of GPUs.
fn gpu_kind(name: &str) -> Option<&str> {
    name.split_once('=').map(|(kind, _)| kind).filter(|kind| kind.ends_with("/gpu"))
}

/// Whether the engine's runtime passes GPUs in as a variable says.
fn is_told_by_variable(spec: &ContainerSpec) -> bool {
    match chosen(spec, NVIDIA) {
        Some("" | "void" | "none") => false,
        Some(_) => !is_command(spec),
        None => spec.runtime.as_deref() == Some("nvidia"),
    }
}

/// A device node of one GPU of NVIDIA's.
fn is_nvidia_node(path: &str) -> bool {
    let number = path.strip_prefix("/dev/nvidia").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a file itself says about a variable.
fn chosen<'a>(spec: &'a ContainerSpec, name: &str) -> Option<&'a str> {
    spec.environment.0.get(name)?.as_deref()
}

fn set(spec: &mut ContainerSpec, name: &str, value: String) {
    spec.environment.0.insert(name.to_owned(), Some(value));
}

/// A request for GPUs and others, as one for each of the two.
fn apart(request: GpuDevices) -> Vec<GpuDevices> {
    let (gpus, others): (Vec<_>, Vec<_>) =
        request.device_ids.iter().cloned().partition(|name| gpu_kind(name).is_some());
    if request.driver != "cdi" || gpus.is_empty() || others.is_empty() {
        return vec![request];
    }
    let of = |device_ids| GpuDevices { device_ids, ..request.clone() };
    vec![of(gpus), of(others)]
}

/// Adds what another request asks of the same GPUs.
fn join(first: &mut GpuDevices, other: GpuDevices) {
    let GpuDevices { driver: _, count: _, device_ids: _, capabilities, options } = other;
    for capability in capabilities {
        if !first.capabilities.contains(&capability) {
            first.capabilities.push(capability);
        }
    }
    for (name, value) in options {
        first.options.entry(name).or_insert(value);
    }
}

#[cfg(test)]
mod tests;
