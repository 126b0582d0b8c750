package main_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// proposed is what a shell is told that may come next, without the flags'
// descriptions, and the number of what it should do besides.
func proposed(t *testing.T, args ...string) (words []string, directive string) {
	t.Helper()
	r := expect(t, 0, append([]string{"__complete"}, args...)...)
	same(t, "stderr", r.stderr, "")
	for _, line := range lines(r.stdout) {
		word, _, _ := strings.Cut(line, "\t")
		words = append(words, word)
	}
	return words[:len(words)-1], words[len(words)-1]
}

const (
	orFiles  = ":0" // cobra's ShellCompDirective
	noFiles  = ":4"
	onlyDirs = ":16"
)

func TestCompletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"slack-0123456789abcdef.flock", "slack-1123456789abcdef.lock", "slack-2123456789abcdef.flock", "signal-0123456789abcdef.flock",
		"discord-0123456789abcdef.flock", "sREADME", ".slick-0123456789abcdef.tmp", "sl\x1b-0123456789abcdef.flock",
	} {
		if filepath.Separator == '/' || !strings.Contains(name, "\x1b") {
			write(t, filepath.Join(dir, name), "")
		}
	}
	for _, test := range []struct {
		args      []string
		want      []string
		directive string
	}{
		{[]string{"status", "--dir", dir, "--scope", ""}, []string{"discord", "signal", "slack"}, noFiles},
		{[]string{"run", "--scope", "s", "--dir", dir}, nil, onlyDirs},
		{[]string{"run", "--dir", dir, "--scope", "s"}, []string{"signal", "slack"}, noFiles},
		{[]string{"run", "--dir=" + dir, "--scope=sl"}, []string{"slack"}, noFiles},
		{[]string{"run", "--dir", filepath.Join(dir, "none"), "--scope", ""}, nil, noFiles},
		{[]string{"run", "--dir", filepath.Join(dir, "sREADME"), "--scope", ""}, nil, noFiles},
		{[]string{"unlock", "--dir", dir, "--scope", "d"}, []string{"discord"}, noFiles},
		{[]string{"unlock", "--dir", dir, "sl"}, []string{"slack-0123456789abcdef", "slack-1123456789abcdef", "slack-2123456789abcdef"}, noFiles},
		{[]string{"unlock", "--dir", dir, "slack-1123456789abcdef", "si"}, []string{"signal-0123456789abcdef"}, noFiles},
		{[]string{"unlock", "--dir", dir, "slack-1123456789abcdef", "slack-1"}, nil, noFiles},
		{[]string{"ls", "--dir", ""}, nil, onlyDirs},
		{[]string{"demo", "--dir", ""}, nil, onlyDirs},
		{[]string{"migrate", "--dir", ""}, nil, onlyDirs},
		{[]string{"doctor", "--dir", ""}, nil, onlyDirs},
		{[]string{"doctor", ""}, nil, noFiles},
		{[]string{"status", "--identity-env", "TOKE"}, []string{"TOKEN"}, noFiles},
		{[]string{"status", "--identity-env", "FLOCKLOCK_TEST_"}, []string{"FLOCKLOCK_TEST_COMMAND"}, noFiles},
		{[]string{"status", "--identity-env", secret}, nil, noFiles},
		{[]string{"status", "--identity", ""}, nil, noFiles},
		{[]string{"status", "--identity", secret, "--identity-file", ""}, nil, orFiles},
		{[]string{"status", "--identity", secret, "--" + secret, "--scope", ""}, nil, orFiles},
		{[]string{"status", ""}, []string{"--identity", "--identity-env", "--identity-file", "--scope"}, noFiles},
		{[]string{"ls", ""}, nil, noFiles},
		{[]string{"run", "--scope", "x", "--identity", secret, "--", ""}, nil, orFiles},
		{[]string{"completion", ""}, []string{"bash", "fish", "powershell", "zsh"}, noFiles},
	} {
		words, directive := proposed(t, test.args...)
		slices.Sort(words)
		if !slices.Equal(words, test.want) || directive != test.directive {
			t.Errorf("%q: %q %s, want %q %s", test.args, words, directive, test.want, test.directive)
		}
	}
	words, _ := proposed(t, "status", "--identity-env", "")
	if !slices.Contains(words, "TOKEN") || !slices.Contains(words, "PATH") && !slices.Contains(words, "Path") {
		t.Errorf("variables: %q", words)
	}
}

// TestCompletionInBash: bash understands what it is given.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil || filepath.Separator != '/' {
		t.Skip("no bash here: ", err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "slack-0123456789abcdef.flock"), "")
	write(t, filepath.Join(dir, "signal-0123456789abcdef.flock"), "")
	script := write(t, filepath.Join(t.TempDir(), "completion"), expect(t, 0, "completion", "bash").stdout)
	// compopt works only where a shell completes, and the other function is
	// bash-completion's.
	cmd := flocklock()
	cmd.Path, cmd.Args = bash, []string{"bash", "--norc", "-c", `
		compopt() { :; }
		_get_comp_words_by_ref() {
			cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
		}
		source "$1"
		flocklock() { "$EXE" "$@"; }
		COMP_WORDS=(flocklock status --dir "$2" --scope sl) COMP_CWORD=5
		COMP_LINE="${COMP_WORDS[*]}" COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9
		__start_flocklock
		echo "${COMPREPLY[@]}"
		complete -p flocklock`, "bash", script, dir}
	cmd.Env = append(cmd.Env, "EXE="+executable())
	r := finish(t, cmd)
	if got := lines(r.stdout); r.code != 0 || r.stderr != "" || len(got) != 2 || strings.TrimSpace(got[0]) != "slack" || !strings.HasSuffix(got[1], " flocklock") {
		t.Errorf("bash: %+v", r)
	}
}
