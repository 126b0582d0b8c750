// The processes of a measurement, as their parent sees them: this program
// again, which the environment makes a worker.

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const workerEnv = "FLOCKLOCK_BENCH_WORKER"

// hang is how long to wait for what must happen. It is no measure of speed: a
// machine may be busy.
const hang = time.Minute

// A process is a worker.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

// A crew is the workers of one measurement.
type crew []*process

// start returns a worker that is ready.
func (c *crew) start(mode string, args ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe, args...), lines: make(chan string, 16)}
	p.cmd.Env = append(os.Environ(), workerEnv+"="+mode)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	*c = append(*c, p)
	go func() { // ends with the worker, which closes its output
		defer close(p.lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			p.lines <- scan.Text()
		}
	}()
	return p, p.expect("ready")
}

// dismiss ends the workers, and waits until they have ended.
func (c *crew) dismiss() {
	for _, p := range *c {
		p.stdin.Close()
	}
	for _, p := range *c {
		late := time.AfterFunc(hang, func() { p.cmd.Process.Kill() })
		p.reap()
		late.Stop()
	}
	*c = nil
}

// kill ends a worker as SIGKILL does.
func (p *process) kill() error { return p.cmd.Process.Kill() }

// reap waits for the end of a worker. It may be called again.
func (p *process) reap() {
	for range p.lines {
	}
	p.cmd.Wait() // how it ended is of no interest
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) tell(words ...any) error {
	_, err := fmt.Fprintln(p.stdin, words...)
	return err
}

// expect waits for the line that begins with a word, and scans what follows it.
func (p *process) expect(word string, into ...any) error {
	late := time.NewTimer(hang)
	defer late.Stop()
	select {
	case <-late.C:
		return fmt.Errorf("a worker that should say %q says nothing", word)
	case line, more := <-p.lines:
		said, rest, _ := strings.Cut(line, " ")
		switch {
		case !more:
			return fmt.Errorf("a worker ended that should say %q", word)
		case said == unmeasuredWord:
			return unmeasured(rest)
		case said != word:
			return fmt.Errorf("a worker said %q, not %q", line, word)
		}
		if len(into) == 0 {
			return nil
		}
		_, err := fmt.Sscan(rest, into...)
		return err
	}
}

// ask tells a worker what to do, and waits until it says that it did.
func (p *process) ask(command, answer string, into ...any) error {
	if err := p.tell(command); err != nil {
		return err
	}
	return p.expect(answer, into...)
}
