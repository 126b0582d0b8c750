//go:build !linux

package main

import (
	"context"

	"github.com/shirou/gopsutil/v3/process"
)

// commandLines are those of the processes that can be seen, by PID.
func commandLines(ctx context.Context) map[int][]string {
	lines := make(map[int][]string)
	pids, err := process.PidsWithContext(ctx)
	if err != nil {
		return lines
	}
	for _, pid := range pids {
		if ctx.Err() != nil {
			break
		}
		words, err := (&process.Process{Pid: pid}).CmdlineSliceWithContext(ctx)
		if err == nil && len(words) > 0 {
			lines[int(pid)] = words
		}
	}
	return lines
}

// protectedRegular finds nothing: only Linux protects files so.
func (d *doctor) protectedRegular(context.Context) []finding { return nil }

// ageingLine is empty: there is no systemd-tmpfiles.
func ageingLine(string) string { return "" }
