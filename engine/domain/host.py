"""Facts of a machine and the environment in which a run was measured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What decides whether a recipe can run here."""

    name: str
    cpu: str
    cores: int
    memory_bytes: int
    cpu_flags: frozenset[str] = frozenset()
    accelerators: tuple[str, ...] = ()
    """Devices that the installed torch can use, as `kind:name` (see engine.hardware.accelerators)."""
    device_runtimes: tuple[str, ...] = ()
    """Runtimes that can open a model on a device of this host."""
    device_formats: tuple[str, ...] = ()
    """Number formats that all of them multiply and not every device does."""
    code: str = ""
    """Which Speedrail its worker is (engine.host.code); empty where nobody asked."""
    cluster: bool = False
    """Workers can be started on other hosts from here (engine.host.in_cluster)."""

    @property
    def has_vnni(self) -> bool:
        """Native int8 dot products (avx_vnni, avx512_vnni or AMX)."""
        return bool(self.cpu_flags & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})

    @property
    def has_bf16(self) -> bool:
        """Native bf16 arithmetic."""
        return bool(self.cpu_flags & {"avx512_bf16", "amx_bf16", "bf16"})

    @property
    def has_fp16(self) -> bool:
        """Native fp16 arithmetic; without it a product runs at a hundredth of fp32's pace."""
        return bool(self.cpu_flags & {"avx512_fp16", "amx_fp16", "asimdhp"})


@dataclass(frozen=True, slots=True)
class Environment:
    """Captured with every run. Runs are compared only where `comparable_key` is equal."""

    host: str
    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    cpu_flags: tuple[str, ...]
    """The flags that decide speed (avx2, avx512f, vnni, bf16, amx …), sorted."""
    threads: int
    governor: str
    """CPU frequency governor, or `unknown`."""
    sandbox: str
    """The level of isolation the children ran in (see engine.sandbox)."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library to version, torch and the runtimes among them."""

    @property
    def comparable_key(self) -> tuple[object, ...]:
        return (
            self.host, self.cpu, self.cores, self.cpu_flags, self.threads, self.kernel, self.python, self.governor,
            tuple(sorted(self.versions.items())),
        )  # fmt: skip
