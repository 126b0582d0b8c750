// Package chaos has no code but its test, which makes every system call that
// flocklock makes on a lock directory the last of its process, or fail.
//
// Each operation runs once under strace(1), which lists the calls. Then it runs
// once a call with SIGKILL in place of that call, and once a call and error that
// the call can give. After each the lock must be as free or as held as the
// operation said, a new process must get it without help, the record must have
// been whole or absent at every look, and nothing may be left behind.
//
//	go test -v ./internal/chaos                             # a sample of faults; prints its seed
//	FLOCKLOCK_CHAOS=42 go test -v ./internal/chaos          # the sample of a seed
//	FLOCKLOCK_CHAOS=all go test -v ./internal/chaos         # every fault, in a minute
//
// What it does not do: two faults at once, but for a file system without
// renameat2(2); a fault after the call has been made, but for SIGKILL, where the
// next call stands for that; a file system without hard links too, where a
// record is not whole at every look; the calls that are not on the directory,
// such as those on /proc. An injected error takes the place of the call, so that
// a close(2) that fails leaves the descriptor open.
package chaos
