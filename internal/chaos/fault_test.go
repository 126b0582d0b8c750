//go:build linux

package chaos

// Which faults there are: the system calls that strace listed, and the errors
// that each can give.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fromFileSystem are the errors that a disk or a file server gives to any call
// that reaches it; see the page of each call, and nfs(5) for ESTALE.
var fromFileSystem = []string{"EIO", "ESTALE"}

// errnos are the errors of each call by section 2 of the manual.
var errnos = map[string][]string{
	"openat":     {"EACCES", "EDQUOT", "EINTR", "EMFILE", "ENFILE", "ENOENT", "ENOSPC", "EOPNOTSUPP", "EPERM", "EROFS", "EIO", "ESTALE"},
	"flock":      {"EINTR", "ENOLCK", "ENOSYS", "EOPNOTSUPP", "EACCES", "EIO", "ESTALE"}, // the last five from NFS and FUSE
	"newfstatat": {"EACCES", "ENOENT", "EIO", "ESTALE"},
	"fstat":      fromFileSystem,
	"read":       {"EINTR", "EIO", "ESTALE"},
	"write":      {"EDQUOT", "EINTR", "ENOSPC", "EPERM", "EIO", "ESTALE"},
	"close":      {"EDQUOT", "EINTR", "ENOSPC", "EIO"},
	"renameat2":  {"EACCES", "EDQUOT", "ENOENT", "ENOSPC", "EPERM", "EROFS", "ENOSYS", "EOPNOTSUPP", "EIO", "ESTALE"},
	"renameat":   {"EACCES", "EDQUOT", "ENOENT", "ENOSPC", "EPERM", "EROFS", "EIO", "ESTALE"},
	"linkat":     {"EACCES", "EDQUOT", "ENOENT", "ENOSPC", "EPERM", "EROFS", "EOPNOTSUPP", "EIO", "ESTALE"},
	"unlinkat":   {"EACCES", "ENOENT", "EPERM", "EROFS", "EIO", "ESTALE"},
	"mkdirat":    {"EACCES", "EDQUOT", "ENOENT", "ENOSPC", "EPERM", "EROFS", "EIO", "ESTALE"},
	"fchmod":     {"EPERM", "EROFS", "EIO", "ESTALE"},
	"getdents64": {"ENOENT", "EIO", "ESTALE"},
	"epoll_ctl":  {"ENOSPC", "EPERM"},
	"fcntl":      {"EMFILE"}, // of F_DUPFD_CLOEXEC only
}

// killed is what befalls a call that is its process's last.
const killed = "SIGKILL"

// A fault is what befalls one call of an operation.
type fault struct {
	call string
	nth  int    // of the calls of this name that a thread makes
	what string // killed, or the name of an error
	text string // the call as strace listed it
}

func (f fault) String() string { return fmt.Sprintf("%s at %s %d: %s", f.what, f.call, f.nth, f.text) }

// rules are the fault in strace's words. With its seccomp filter strace stops at
// no other calls, which is faster, but then it cannot send a signal.
func (f fault) rules() []string {
	if f.what == killed {
		return []string{"-e", "trace=" + f.call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", f.call, f.nth)}
	}
	return []string{"-e", "trace=" + f.call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", f.call, f.what, f.nth), "--seccomp-bpf"}
}

// without are the rules with which a file system does not have some calls. rules
// begins with what is traced.
func without(calls, rules []string) []string {
	rules = slices.Clone(rules)
	for _, call := range calls {
		rules[1] += "," + call
		rules = append(rules, "-e", "inject="+call+":error=EINVAL")
	}
	return rules
}

// tracer is the path of strace.
func tracer(t *testing.T) string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace(1): ", err)
	}
	if out, err := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine does not let us trace, which needs ptrace(2): %v: %s", err, out)
	}
	return strace
}

// traced makes a command run under strace, which sees what it does to some files.
func traced(cmd *exec.Cmd, strace, log string, files []string, rules ...string) {
	args := []string{"strace", "-f", "-qq", "-y", "-o", log}
	for _, file := range files {
		args = append(args, "-P", file)
	}
	args = append(args, rules...)
	cmd.Args = append(append(args, cmd.Path), cmd.Args[1:]...)
	cmd.Path = strace
}

// listing has strace list all calls on files.
var listing = []string{"-e", "trace=%file,%desc", "--seccomp-bpf"}

// callLine is a call as strace writes it, with -f and -o.
var callLine = regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)`)

// callsOf reads from a listing the calls between the two marks. Without marks
// it takes all. Those that threads made as their nth are one.
func callsOf(t *testing.T, log, dir string) []fault {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	var calls []fault
	for line := range strings.Lines(string(text)) {
		part := callLine.FindStringSubmatch(line)
		if part == nil {
			continue // the second half of a call, or a thread's end
		}
		if strings.Contains(line, beginMark) {
			calls = nil
		}
		if strings.Contains(line, endMark) {
			break
		}
		key := part[1] + " " + part[2]
		counts[key]++
		calls = append(calls, fault{call: part[2], nth: counts[key], text: shortened(part[3], dir)})
	}
	if len(calls) > 0 && strings.Contains(calls[0].text, beginMark) {
		calls = calls[1:]
	}
	same := func(a, b fault) bool { return a.call == b.call && a.nth == b.nth }
	var distinct []fault
	for _, call := range calls {
		if !slices.ContainsFunc(distinct, func(f fault) bool { return same(f, call) }) {
			distinct = append(distinct, call)
		}
	}
	return distinct
}

// shortened is what tells a call from another, for people to read.
func shortened(text, dir string) string {
	const limit = 160
	text = strings.TrimSpace(strings.ReplaceAll(text, dir+string(filepath.Separator), ""))
	return text[:min(len(text), limit)]
}

// faultsOf are the faults that can befall an operation's calls.
func (op operation) faultsOf(calls []fault) []fault {
	var faults []fault
	for _, call := range calls {
		for _, what := range append([]string{killed}, errnos[call.call]...) {
			f := call
			f.what = what
			if op.suffers(f) {
				faults = append(faults, f)
			}
		}
	}
	return faults
}

// suffers reports whether a fault can befall an operation.
func (op operation) suffers(f fault) bool {
	switch {
	case slices.Contains(op.lacks, f.call):
		return false
	case f.call == "fcntl" && f.what != killed && !strings.Contains(f.text, "F_DUPFD"):
		return false
	case slices.Contains(op.lacks, "renameat2") && f.call == "linkat" && (f.what == "EPERM" || f.what == "EOPNOTSUPP"):
		// Without links too a record is a copy, which is not whole at every look.
		return false
	}
	return op.spares == nil || !op.spares(f)
}

// befell reports whether a fault came about, by strace's log.
func (f fault) befell(t *testing.T, log string) bool {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f.what == killed && strings.Contains(line, "+++ killed by SIGKILL +++") ||
			strings.Contains(line, " -1 "+f.what+" ") && strings.Contains(line, "(INJECTED)") {
			return true
		}
	}
	return false
}
