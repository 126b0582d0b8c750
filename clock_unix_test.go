//go:build unix && !netbsd && !aix

package flocklock_test

import "golang.org/x/sys/unix"

const clockMonotonic = unix.CLOCK_MONOTONIC
