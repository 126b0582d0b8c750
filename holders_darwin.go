// Who holds a lock, by lsof(8), which tells who has a file open: its lock field
// stays blank on macOS, and no system call tells more.

package flocklock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	lsofPatience = 5 * time.Second
	maxLsof      = 1 << 20 // bytes of its output
)

// holders names the one process that has the file of a held lock open.
func (d Dir) holders(name string) ([]Process, error) {
	lsof, err := exec.LookPath("lsof")
	if err != nil {
		return nil, fmt.Errorf("there is no lsof: %w: %w", errors.ErrUnsupported, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lsofPatience)
	defer cancel()
	// -F: the PID and descriptors, a line each; -w: no warnings; -n, -P: no names of hosts and ports.
	cmd := exec.CommandContext(ctx, lsof, "-w", "-n", "-P", "-F", "pf", "--", d.path(name, lockSuffix))
	cmd.WaitDelay = time.Second
	var out limited
	cmd.Stdout = &out
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lsof does not end: %w: %w", errors.ErrUnsupported, ctx.Err())
	}
	// Its exit code 1 says that something was not found, and not what.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("lsof: %w: %w", errors.ErrUnsupported, err)
	}
	var found []Process
	for _, pid := range parseLsof(out.text.String()) {
		p := Process{PID: pid}
		if words, _ := commandLine(pid); len(words) > 0 {
			p.Argv = withoutFlags(words)
		}
		found = append(found, p)
	}
	if len(found) == 1 && os.Geteuid() != 0 {
		return nil, notTold(found) // another user's may be the holder, and is not shown
	}
	return onlyOpener(found)
}

// parseLsof takes the PIDs from what lsof -F pf writes: a line p with the PID and
// then a line f for each of its descriptors; see "OUTPUT FOR OTHER PROGRAMS" in
// lsof(8).
func parseLsof(out string) (pids []int) {
	for line := range strings.Lines(out) {
		number, found := strings.CutPrefix(line, "p")
		if pid, err := strconv.Atoi(strings.TrimSuffix(number, "\n")); found && err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// limited keeps the beginning of what is written to it.
type limited struct{ text bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	l.text.Write(b[:min(len(b), maxLsof-l.text.Len())])
	return len(b), nil
}
