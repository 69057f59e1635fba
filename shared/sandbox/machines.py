"""The numbers of system calls on the architectures that devices have; `-` where an architecture does not have a call.

Checked against libseccomp by a test. Calls that are newer than 2019 have one number everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MACHINES", "Machine"]

_COLUMNS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "armv7l": 0x40000028}
"""In the order of the table's columns; the values are the kernel's audit numbers."""

_TABLE = """
fork                 57    -    2
vfork                58    -  190
umount2             166   39   52
mount               165   40   21
pivot_root          155   41  218
chroot              161   51   61
unshare             272   97  337
kexec_load          246  104  347
init_module         175  105  128
delete_module       176  106  129
ptrace              101  117   26
kill                 62  129   37
tkill               200  130  238
tgkill              234  131  268
rt_sigqueueinfo     129  138  178
setpriority         141  140   97
socket               41  198  281
socketpair           53  199  288
bind                 49  200  282
listen               50  201  284
accept               43  202  285
connect              42  203  283
sendto               44  206  290
sendmsg              46  211  296
add_key             248  217  309
request_key         249  218  310
keyctl              250  219  311
clone                56  220  120
execve               59  221   11
rt_tgsigqueueinfo   297  240  363
perf_event_open     298  241  364
accept4             288  242  366
prlimit64           302  261  369
open_by_handle_at   304  265  371
setns               308  268  375
sendmmsg            307  269  374
process_vm_readv    310  270  376
process_vm_writev   311  271  377
finit_module        313  273  379
bpf                 321  280  386
execveat            322  281  387
userfaultfd         323  282  388
kexec_file_load     320  294  401
pidfd_send_signal   424  424  424
io_uring_setup      425  425  425
io_uring_enter      426  426  426
io_uring_register   427  427  427
open_tree           428  428  428
move_mount          429  429  429
fsopen              430  430  430
fsmount             432  432  432
pidfd_open          434  434  434
clone3              435  435  435
pidfd_getfd         438  438  438
mount_setattr       442  442  442
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its audit number and the numbers of its system calls."""

    architecture: int
    numbers: Mapping[str, int]


def _column(at: int) -> dict[str, int]:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    return {row[0]: int(row[at + 1]) for row in rows if row[at + 1] != "-"}


MACHINES: Mapping[str, Machine] = {
    name: Machine(architecture, _column(at)) for at, (name, architecture) in enumerate(_COLUMNS.items())
}
