//! From configuration to GPUs: who finds them, and who decides about them.

use std::fmt;
#[cfg(feature = "gpu")]
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nanny_lib::Builder;
use nanny_lib::gpu::{
    AllowAll, EvictionOrder, Exclusive, ExclusivePerGpu, Fit, LedgerOnly, Packing,
};
#[cfg(feature = "gpu")]
use nanny_lib::gpu::{GpuInventory, GpuReading};
use nanny_lib::lifecycle::{GpuSettings, Settings};

/// Which GPUs there are, and who may have them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "GPUs")]
#[non_exhaustive]
pub struct GpuArgs {
    /// Who may have a GPU: one service in all, one on each GPU, as many as fit by what is measured,
    /// as many as fit by what they declare, or everybody.
    #[arg(long, env = "NANNY_GPU_POLICY", value_name = "POLICY", default_value = "exclusive")]
    pub gpu_policy: PolicyName,
    /// The GPUs there are, by their memory, where no driver can be asked: a size for each, such as
    /// 24GiB,24GiB. Or `none`, to ask no driver. [default: what the drivers of NVIDIA and AMD say]
    #[cfg(feature = "gpu")]
    #[arg(long, env = "NANNY_GPU", value_name = "SIZE,…", value_parser = Declared::parse)]
    pub gpu: Option<Declared>,
    /// Who makes way first for a start with force: whoever was not used for longest, or has the
    /// lowest priority. [default: lru]
    #[arg(long, env = "NANNY_GPU_EVICT", value_name = "lru|priority")]
    pub gpu_evict: Option<EvictionName>,
    /// Where a service goes that fits on several GPUs: to the fullest, or to the emptiest.
    /// [default: binpack]
    #[arg(long, env = "NANNY_GPU_PACK", value_name = "binpack|spread")]
    pub gpu_pack: Option<PackingName>,
    /// Let a service take the place of those of lower priority without force.
    #[arg(long, env = "NANNY_GPU_PREEMPT")]
    pub gpu_preempt: bool,
    /// Memory to keep free on each GPU. [default: none]
    #[cfg(feature = "gpu")]
    #[arg(long, env = "NANNY_GPU_HEADROOM", value_name = "SIZE", value_parser = mib)]
    pub gpu_headroom: Option<u64>,
    /// How long whoever is next in the queue lets others go first. [default: 300]
    #[arg(
        long,
        env = "NANNY_GPU_MAX_BYPASS",
        value_name = "SECONDS|never",
        value_parser = Bypass::parse
    )]
    pub gpu_max_bypass: Option<Bypass>,
    /// How long a start waits until memory that others had is free again. [default: 15]
    #[arg(
        long,
        env = "NANNY_GPU_RELEASE_LIMIT",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    pub gpu_release_limit: Option<Duration>,
    /// NVIDIA's library, if not where the system has it.
    #[cfg(feature = "gpu")]
    #[arg(long, env = "NANNY_NVML_LIBRARY", value_name = "PATH", hide = true)]
    pub nvml_library: Option<std::path::PathBuf>,
}

/// A policy, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum PolicyName {
    /// One GPU service at a time, however many GPUs there are.
    #[default]
    Exclusive,
    /// One GPU service at a time on each GPU.
    ExclusivePerGpu,
    /// As many as fit, by what they declare, what they are seen to use, and what others use.
    Fit,
    /// As many as fit, by what they declare or are seen to use; what others use is not counted.
    LedgerOnly,
    /// Everybody, always.
    AllowAll,
}

impl PolicyName {
    /// Whether it says who is on which GPU, and so must know of some.
    fn gives_out_gpus(self) -> bool {
        match self {
            Self::ExclusivePerGpu | Self::Fit | Self::LedgerOnly => true,
            Self::Exclusive | Self::AllowAll => false,
        }
    }

    /// Whether it says who has how much of it.
    fn gives_out_memory(self) -> bool {
        match self {
            Self::Fit | Self::LedgerOnly => true,
            Self::Exclusive | Self::ExclusivePerGpu | Self::AllowAll => false,
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => "exclusive",
            Self::ExclusivePerGpu => "exclusive-per-gpu",
            Self::Fit => "fit",
            Self::LedgerOnly => "ledger-only",
            Self::AllowAll => "allow-all",
        })
    }
}

/// An order in which services make way, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum EvictionName {
    /// Whoever was not used for longest.
    Lru,
    /// Whoever has the lowest priority.
    Priority,
}

/// A way to place services, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum PackingName {
    /// On the GPU with the least room left.
    Binpack,
    /// On the GPU with the most room left.
    Spread,
}

/// For how long the next in the queue lets others go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bypass {
    /// For so long.
    For(Duration),
    /// It never makes them wait.
    Never,
}

impl Bypass {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        seconds(text).map(Self::For).map_err(|said| format!("{said}, or 'never'"))
    }
}

/// GPUs that are declared in place of those that a driver would tell.
#[cfg(feature = "gpu")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declared {
    /// Nothing is known of any.
    Nothing,
    /// These.
    Gpus(nanny_gpu::FixedInventory),
}

#[cfg(feature = "gpu")]
impl Declared {
    fn parse(text: &str) -> Result<Self, nanny_gpu::InvalidSizes> {
        if text == "none" {
            return Ok(Self::Nothing);
        }
        nanny_gpu::FixedInventory::parse(text).map(Self::Gpus)
    }
}

/// Flags that do not go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Useless {
    /// One does nothing.
    #[error(
        "{flag} does nothing with --gpu-policy {policy}: leave it out, or choose fit or ledger-only"
    )]
    Flag {
        /// Which.
        flag: &'static str,
        /// The policy that does not ask for it.
        policy: PolicyName,
    },
    /// There is nothing to give to anybody, and never will be.
    #[error(
        "with --gpu none, --gpu-policy {policy} has no GPU to give to anybody: say what there is \
         (--gpu 24GiB), leave --gpu out to have the drivers asked, or choose exclusive or allow-all"
    )]
    NoGpus {
        /// The policy that gives them out.
        policy: PolicyName,
    },
    /// All memory of all declared GPUs is to be kept free.
    #[error(
        "--gpu-headroom keeps all memory of every GPU free: it must be less than the largest size in \
         --gpu"
    )]
    AllKept,
}

impl GpuArgs {
    /// The default policy, and nothing is known of any GPU.
    #[cfg(feature = "process")]
    pub(crate) fn asking_nobody() -> Self {
        #[cfg(feature = "gpu")]
        return Self { gpu: Some(Declared::Nothing), ..Self::default() };
        #[cfg(not(feature = "gpu"))]
        Self::default()
    }

    /// Tells a nanny who finds its GPUs, and who decides about them.
    ///
    /// # Errors
    ///
    /// If a flag would do nothing: whoever gave it expects something that will not happen.
    pub(crate) async fn set_up(&self, builder: Builder) -> Result<Builder, Useless> {
        self.check()?;
        let mut settings = Settings::default();
        settings.gpu = self.settings();
        let builder = self.policy(builder.settings(settings));
        #[cfg(feature = "gpu")]
        if let Some(inventory) = self.inventory() {
            self.look_for_gpus(&*inventory).await;
            return Ok(builder.gpus(inventory));
        }
        self.warn_of_none(&[]);
        Ok(builder)
    }

    /// Who finds the GPUs.
    #[cfg(feature = "gpu")]
    fn inventory(&self) -> Option<Arc<dyn GpuInventory>> {
        match &self.gpu {
            Some(Declared::Nothing) => None,
            Some(Declared::Gpus(declared)) => Some(Arc::new(declared.clone())),
            None => {
                let mut config = nanny_gpu::DetectConfig::default();
                config.nvml_library.clone_from(&self.nvml_library);
                Some(nanny_gpu::detect(&config))
            }
        }
    }

    /// Warns if there is nothing that the policy could give to anybody. A driver may come later.
    #[cfg(feature = "gpu")]
    async fn look_for_gpus(&self, inventory: &dyn GpuInventory) {
        if !self.gpu_policy.gives_out_gpus() {
            return;
        }
        let Ok(sweep) = tokio::time::timeout(A_LOOK, inventory.sweep()).await else {
            self.warn_of_none(&["the drivers have not answered yet".to_owned()]);
            return;
        };
        let is_useful =
            |device: &GpuReading| device.total_mib.is_some() || !self.gpu_policy.gives_out_memory();
        if !sweep.devices.iter().any(is_useful) {
            let problems = sweep.problems.into_iter().map(|problem| problem.message);
            self.warn_of_none(&problems.collect::<Vec<_>>());
        }
    }

    fn warn_of_none(&self, problems: &[String]) {
        if self.gpu_policy.gives_out_gpus() {
            tracing::warn!(
                policy = %self.gpu_policy,
                problems = problems.join("; "),
                "no GPU is known that could be given out: services that need one are refused \
                 until a driver answers; if none can, say what there is with --gpu 24GiB"
            );
        }
    }

    fn policy(&self, builder: Builder) -> Builder {
        match self.gpu_policy {
            PolicyName::Exclusive => builder.policy(Exclusive),
            PolicyName::ExclusivePerGpu => builder.policy(ExclusivePerGpu),
            PolicyName::Fit => builder.policy(self.fit()),
            PolicyName::LedgerOnly => builder.policy(LedgerOnly::like(self.fit())),
            PolicyName::AllowAll => builder.policy(AllowAll),
        }
    }

    /// Periods and limits.
    fn settings(&self) -> GpuSettings {
        let mut settings = GpuSettings::default();
        if let Some(limit) = self.gpu_release_limit {
            settings.release_limit = limit;
        }
        match self.gpu_max_bypass {
            Some(Bypass::For(limit)) => settings.max_bypass = Some(limit),
            Some(Bypass::Never) => settings.max_bypass = None,
            None => {}
        }
        #[cfg(feature = "gpu")]
        if let Some(headroom) = self.gpu_headroom {
            settings.headroom_mib = headroom;
        }
        settings
    }

    fn fit(&self) -> Fit {
        let order = match self.gpu_evict {
            Some(EvictionName::Priority) => EvictionOrder::Priority,
            Some(EvictionName::Lru) | None => EvictionOrder::Lru,
        };
        let packing = match self.gpu_pack {
            Some(PackingName::Spread) => Packing::Spread,
            Some(PackingName::Binpack) | None => Packing::Binpack,
        };
        Fit::new().evicting(order).packing(packing).preempting(self.gpu_preempt)
    }

    /// Whether all that was given does something with the policy.
    pub(crate) fn check(&self) -> Result<(), Useless> {
        #[cfg(feature = "gpu")]
        match &self.gpu {
            Some(Declared::Nothing) if self.gpu_policy.gives_out_gpus() => {
                return Err(Useless::NoGpus { policy: self.gpu_policy });
            }
            Some(Declared::Gpus(declared))
                if self.gpu_policy.gives_out_memory()
                    && self.gpu_headroom.is_some_and(|kept| kept >= declared.largest_mib()) =>
            {
                return Err(Useless::AllKept);
            }
            Some(_) | None => {}
        }
        if self.gpu_policy.gives_out_memory() {
            return Ok(());
        }
        #[cfg(feature = "gpu")]
        let headroom = self.gpu_headroom.is_some();
        #[cfg(not(feature = "gpu"))]
        let headroom = false;
        let given = [
            ("--gpu-evict", self.gpu_evict.is_some()),
            ("--gpu-pack", self.gpu_pack.is_some()),
            ("--gpu-preempt", self.gpu_preempt),
            ("--gpu-headroom", headroom),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Useless::Flag { flag, policy: self.gpu_policy }),
            None => Ok(()),
        }
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|duration| *duration <= A_YEAR);
    seconds.ok_or_else(|| "expected a number of seconds, such as 60 or 0.5".to_owned())
}

#[cfg(feature = "gpu")]
fn mib(text: &str) -> Result<u64, nanny_gpu::InvalidSize> {
    nanny_gpu::parse_bytes(text).map(|bytes| bytes.div_ceil(1 << 20))
}

const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
/// A driver that was not loaded yet may need some seconds.
#[cfg(feature = "gpu")]
const A_LOOK: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        gpu: GpuArgs,
    }

    fn args(line: &str) -> Result<GpuArgs, String> {
        let words = std::iter::once("nanny").chain(line.split_ascii_whitespace());
        Line::try_parse_from(words).map(|line| line.gpu).map_err(|error| error.to_string())
    }

    #[test]
    fn policies_are_called_what_they_call_themselves() {
        for name in PolicyName::value_variants() {
            let word = name.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(word, name.to_string());
            let args = args(&format!("--gpu-policy {word}")).unwrap();
            let shown = format!("{:?}", args.policy(nanny_lib::Nanny::builder()));
            let policy = format!("{name:?}");
            assert!(shown.contains(&format!("policy: {policy}")), "{word}: {shown}");
        }
        assert_eq!(args("").unwrap().gpu_policy, PolicyName::Exclusive);
        assert!(args("--gpu-policy some").unwrap_err().contains("exclusive-per-gpu"));
    }

    #[test]
    fn order_and_packing_reach_the_policy() {
        let fit = args("--gpu-policy fit --gpu-evict priority --gpu-pack spread --gpu-preempt");
        let expected = Fit::new().evicting(EvictionOrder::Priority).packing(Packing::Spread);
        assert_eq!(fit.unwrap().fit(), expected.preempting(true));
        assert_eq!(args("--gpu-policy fit").unwrap().fit(), Fit::new());
    }

    #[test]
    fn limits_reach_the_settings() {
        let settings = args("--gpu-release-limit 7.5 --gpu-max-bypass 60").unwrap().settings();
        assert_eq!(settings.release_limit, Duration::from_millis(7500));
        assert_eq!(settings.max_bypass, Some(Duration::from_secs(60)));
        assert_eq!(args("--gpu-max-bypass never").unwrap().settings().max_bypass, None);
        let usual = args("").unwrap().settings();
        assert_eq!(usual.release_limit, GpuSettings::default().release_limit);
        assert_eq!(usual.max_bypass, GpuSettings::default().max_bypass);
        for odd in ["--gpu-max-bypass soon", "--gpu-release-limit=-1", "--gpu-release-limit inf"] {
            assert!(args(odd).unwrap_err().contains("60"), "{odd}");
        }
    }

    #[test]
    fn a_flag_that_would_do_nothing_is_refused() {
        for flag in ["--gpu-evict lru", "--gpu-pack spread", "--gpu-preempt"] {
            for policy in ["exclusive", "exclusive-per-gpu", "allow-all"] {
                let said = args(&format!("--gpu-policy {policy} {flag}")).unwrap().check();
                let said = said.unwrap_err().to_string();
                let name = flag.split(' ').next().unwrap();
                assert!(said.starts_with(name) && said.contains(policy), "{said}");
            }
            for policy in ["fit", "ledger-only"] {
                args(&format!("--gpu-policy {policy} {flag}")).unwrap().check().unwrap();
            }
        }
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn what_could_give_nothing_to_anybody_is_refused() {
        let check = |line: &str| args(line).unwrap().check().map_err(|said| said.to_string());
        for policy in ["exclusive-per-gpu", "fit", "ledger-only"] {
            let said = check(&format!("--gpu-policy {policy} --gpu none")).unwrap_err();
            assert!(said.contains(policy) && said.contains("--gpu 24GiB"), "{said}");
        }
        check("--gpu none").unwrap();
        let kept = "--gpu-policy fit --gpu 24GiB,8GiB --gpu-headroom";
        assert!(check(&format!("{kept} 24GiB")).unwrap_err().starts_with("--gpu-headroom"));
        check(&format!("{kept} 23GiB")).unwrap();
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn gpus_can_be_declared() {
        let declared = args("--gpu 24GiB,8GiB").unwrap().gpu.unwrap();
        let expected = nanny_gpu::FixedInventory::parse("24GiB,8GiB").unwrap();
        assert_eq!(declared, Declared::Gpus(expected));
        assert!(args("--gpu none").unwrap().inventory().is_none());
        assert!(args("").unwrap().inventory().is_some());
        assert!(args("--gpu 24").unwrap_err().contains("24GiB"));
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn memory_can_be_kept_free() {
        let args = args("--gpu-policy fit --gpu-headroom 1.5GB").unwrap();
        assert_eq!(args.settings().headroom_mib, 1431, "rounded up");
    }
}
