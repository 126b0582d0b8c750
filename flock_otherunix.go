//go:build unix && !linux && !darwin

// The other Unixes have no rename that exchanges or refuses to replace, and no
// name for a boot: the record is put in place by hard link.

package flocklock

import (
	"errors"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

func renameNoReplace(oldpath, newpath string) error { return errors.ErrUnsupported }

func exchange(oldpath, newpath string) error { return errors.ErrUnsupported }

func sinceBoot() (time.Duration, bool) { return 0, false }

func bootID() (string, error) { return "", nil }

func pidNamespace() (string, error) { return "", nil }

func processState(pid int) (zombie, stopped bool) {
	states, _ := (&process.Process{Pid: int32(pid)}).Status()
	return slices.Contains(states, process.Zombie), slices.Contains(states, process.Stop)
}
