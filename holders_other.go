//go:build !linux && !windows && !darwin

// The systems that are not asked who holds a lock.

package flocklock

import "errors"

func (d Dir) holders(string) ([]Process, error) { return nil, errors.ErrUnsupported }
