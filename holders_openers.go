//go:build windows || darwin

// Who holds a lock, from who has its file open, where that is all that the
// system tells.

package flocklock

import (
	"errors"
	"fmt"
	"strings"
)

// onlyOpener is the holder of a lock that is held: the one process that has its
// file open. One of several is not chosen.
func onlyOpener(openers []Process) ([]Process, error) {
	switch len(openers) {
	case 0:
		return nil, fmt.Errorf("the system names nobody who has the file open: %w", errors.ErrUnsupported)
	case 1:
		return openers, nil
	default:
		return nil, notTold(openers)
	}
}

// notTold is the error that names those of whom one may be the holder.
func notTold(openers []Process) error {
	const most = 8
	var names []string
	for _, p := range openers[:min(len(openers), most)] {
		names = append(names, Process{PID: p.PID}.String())
	}
	return fmt.Errorf("the system does not tell who locks the file, only that %d processes which can be seen from here have it open: %s: %w",
		len(openers), strings.Join(names, ", "), errors.ErrUnsupported)
}
