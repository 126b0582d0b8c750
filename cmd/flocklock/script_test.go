package main_test

// The scripts of testdata/script are sessions at a shell: what is typed there,
// and what is to be seen then. Beside testscript's own commands they have
//
//	exits CODE ARG...   runs flocklock, which must end with that code
//	hold NAME ARG...    starts flocklock, whose COMMAND is the worker echo, and waits until it runs;
//	                    $NAME is flocklock's PID from then on
//	end NAME CODE       ends that COMMAND; flocklock must end with that code
//	says KEY...         the lines of stdout must be JSON objects with just these keys
//
// and in all that flocklock prints the identity, $TOKEN, must not be seen.

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, roleEnv+"=1", "TOKEN="+secret, "NAME="+name, "HASH="+hashOf(secret), "GORACE=atexit_sleep_ms=0")
			env.Values["holders"] = make(holders)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "hold": holdInScript, "end": endInScript, "says": says, "interrupted": interrupted,
		},
	})
}

func refuseNot(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("! is not for this command")
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	refuseNot(ts, neg)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec("flocklock", args[1:]...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if strings.Contains(stdout+stderr, "a-secret") {
		ts.Fatalf("the identity is told")
	}
}

// holders are the commands that hold, by their names.
type holders map[string]*scriptHolder

type scriptHolder struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func holdInScript(ts *testscript.TestScript, neg bool, args []string) {
	refuseNot(ts, neg)
	cmd := flocklock(append(args[1:], "--", executable(), "worker", "echo")...)
	cmd.Dir = ts.MkAbs(".")
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { // does nothing where it has ended
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "pid ") {
		ts.Fatalf("COMMAND says %q: %v", line, err)
	}
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
	ts.Value("holders").(holders)[args[0]] = &scriptHolder{cmd, stdin}
}

func endInScript(ts *testscript.TestScript, neg bool, args []string) {
	refuseNot(ts, neg)
	holder := ts.Value("holders").(holders)[args[0]]
	holder.stdin.Close()
	stuck := time.AfterFunc(hang, func() { holder.cmd.Process.Kill() })
	defer stuck.Stop()
	holder.cmd.Wait()
	if got := strconv.Itoa(holder.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s", got, args[1])
	}
}

// interrupted starts a command that goes on for ever, interrupts it once it has
// said a line that matches the second word, and checks the exit code.
func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	refuseNot(ts, neg)
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	cmd := flocklock(args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	out, in, err := os.Pipe()
	ts.Check(err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	ts.Check(err)
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	found := false
	for said := bufio.NewScanner(out); said.Scan(); {
		if !found && want.MatchString(said.Text()) {
			found = true
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	cmd.Wait()
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); !found || got != args[0] {
		ts.Fatalf("said it: %t; exit code %s, want %s", found, got, args[0])
	}
}

func says(ts *testscript.TestScript, neg bool, args []string) {
	refuseNot(ts, neg)
	slices.Sort(args)
	text := ts.ReadFile("stdout")
	if text == "" || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("stdout has no line, or no end of it: %q", text)
	}
	for _, line := range lines(text) {
		var object map[string]json.RawMessage
		ts.Check(json.Unmarshal([]byte(line), &object))
		if keys := slices.Sorted(maps.Keys(object)); !slices.Equal(keys, args) {
			ts.Fatalf("the keys are %q, want %q", keys, args)
		}
	}
}
