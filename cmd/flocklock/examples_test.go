package main_test

// The examples are checked as files of their kind, and their command lines are
// run: each must hold the lock while its COMMAND runs, and end with 75 where it
// is held.

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tryExample runs a command line of an example with another COMMAND, where the
// directory is as the environment says.
func tryExample(t *testing.T, line []string) {
	t.Helper()
	line = slices.Clone(line)
	end := slices.Index(line, "--")
	if end < 0 || filepath.Base(line[0]) != "flocklock" || !slices.Contains(line[:end], "--exec") {
		t.Fatalf("not flocklock run --exec: %q", line)
	}
	same(t, "COMMAND", filepath.Base(line[end+1]), "hermes-gateway") // the name that old gateways know
	if i := slices.Index(line, "--identity-file"); i >= 0 {
		line[i+1] = write(t, filepath.Join(t.TempDir(), "token"), secret+"\n")
	}
	dir := t.TempDir()
	try := func(want int) {
		t.Helper()
		cmd := flocklock(append(line[1:end+1], executable(), "worker", "exit", "7")...)
		cmd.Env = append(cmd.Env, "HERMES_GATEWAY_LOCK_DIR="+dir, "BOT_TOKEN="+secret)
		if runtime.GOOS == "windows" {
			want = 64 // no --exec there
		}
		if r := finish(t, cmd); r.code != want {
			t.Errorf("exit code %d, want %d: %+v", r.code, want, r)
		}
	}
	try(7)
	hold(t, dir)
	try(75)
}

// unit is a unit of systemd, by section and key. A key may stand there twice.
func unit(t *testing.T, text string) map[string][]string {
	t.Helper()
	settings := make(map[string][]string)
	section := ""
	for _, line := range lines(text) {
		key, value, found := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		case found:
			settings[section+key] = append(settings[section+key], value)
		default:
			t.Errorf("neither section nor setting: %q", line)
		}
	}
	return settings
}

func TestExampleSystemd(t *testing.T) {
	t.Parallel()
	text := example(t, "gateway.service")
	settings := unit(t, text)
	for key, want := range map[string][]string{
		"[Unit]StartLimitIntervalSec":       {"0"},
		"[Service]Restart":                  {"on-failure"},
		"[Service]RestartSec":               {"5s"},
		"[Service]RestartPreventExitStatus": nil,
		"[Service]SuccessExitStatus":        nil,
		"[Service]Environment":              {"HERMES_GATEWAY_LOCK_DIR=/var/lib/hermes/gateway-locks"},
		"[Service]StateDirectory":           {"hermes"},
		"[Install]WantedBy":                 {"multi-user.target"},
	} {
		same(t, key, settings[key], want)
	}
	if len(settings["[Service]ExecStart"]) != 1 {
		t.Fatal("not one ExecStart")
	}
	before := settings["[Service]ExecStartPre"]
	same(t, "the step before the start", before, []string{"-/usr/local/bin/flocklock doctor --fix"})
	expect(t, 0, append(strings.Fields(before[0])[1:], "--dir", t.TempDir())...)
	tryExample(t, strings.Fields(settings["[Service]ExecStart"][0]))
}

func TestExampleSystemdVerified(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here: ", err)
	}
	// It looks for the program too, which is not installed.
	text := strings.ReplaceAll(example(t, "gateway.service"), "/usr/local/bin/flocklock", executable())
	verify := func(text string) (string, error) {
		file := write(t, filepath.Join(t.TempDir(), "gateway.service"), text)
		out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(text + "\n[Service]\nRestart=perhaps\n"); err == nil && out == "" {
		t.Error("systemd-analyze finds nothing wrong with a wrong unit")
	}
	if out, err := verify(text); err != nil || out != "" {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

func TestExampleLaunchd(t *testing.T) {
	t.Parallel()
	list, err := decodePlist(example(t, "org.hermes.gateway.plist"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Label":                "org.hermes.gateway",
		"KeepAlive":            "map[SuccessfulExit:false]",
		"RunAtLoad":            "true",
		"ThrottleInterval":     "10",
		"EnvironmentVariables": "map[HERMES_GATEWAY_LOCK_DIR:/usr/local/var/hermes/gateway-locks]",
	} {
		same(t, key, list[key], want)
	}
	tryExample(t, words(list["ProgramArguments"]))
}

func words(list any) (words []string) {
	all, _ := list.([]any)
	for _, word := range all {
		words = append(words, fmt.Sprint(word))
	}
	return words
}

// decodePlist reads a property list, of which the root is a dict.
func decodePlist(text string) (map[string]any, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	if name, err := nextElement(d); err != nil || name != "plist" {
		return nil, fmt.Errorf("%s is not plist: %v", name, err)
	}
	value, err := decodeNext(d)
	if err != nil {
		return nil, err
	}
	if name, err := nextElement(d); err != nil || name != "" {
		return nil, fmt.Errorf("%s follows: %v", name, err)
	}
	if _, err := nextElement(d); err != io.EOF {
		return nil, fmt.Errorf("something follows the list: %v", err)
	}
	dict, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("not a dict")
	}
	return dict, nil
}

// nextElement is the name of the element that begins next; "": one ends.
func nextElement(d *xml.Decoder) (string, error) {
	for {
		token, err := d.Token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.StartElement:
			return token.Name.Local, nil
		case xml.EndElement:
			return "", nil
		case xml.CharData:
			if strings.TrimSpace(string(token)) != "" {
				return "", fmt.Errorf("text between elements: %q", token)
			}
		}
	}
}

var errEnd = errors.New("no more values")

// decodeNext decodes the value that begins next.
func decodeNext(d *xml.Decoder) (any, error) {
	name, err := nextElement(d)
	if err != nil {
		return nil, err
	}
	switch name {
	case "":
		return nil, errEnd
	case "dict":
		return decodeDict(d)
	case "array":
		return decodeArray(d)
	case "key", "string", "integer", "true", "false":
		text, err := decodeText(d)
		if name == "true" || name == "false" {
			text = name
		}
		return text, err
	default:
		return nil, fmt.Errorf("no plist has %s", name)
	}
}

func decodeText(d *xml.Decoder) (string, error) {
	var text strings.Builder
	for {
		token, err := d.Token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			return text.String(), nil
		}
	}
}

func decodeArray(d *xml.Decoder) (array []any, err error) {
	for {
		value, err := decodeNext(d)
		if err == errEnd {
			return array, nil
		}
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
}

func decodeDict(d *xml.Decoder) (map[string]any, error) {
	all, err := decodeArray(d)
	if err != nil {
		return nil, err
	}
	if len(all)%2 != 0 {
		return nil, errors.New("a key without a value, or a value without a key")
	}
	dict := make(map[string]any)
	for pair := range slices.Chunk(all, 2) {
		dict[fmt.Sprint(pair[0])] = pair[1]
	}
	return dict, nil
}

func TestExampleCompose(t *testing.T) {
	t.Parallel()
	type service struct {
		Image       string
		Command     []string
		Environment map[string]string
		Init        bool
		Restart     string
		Secrets     []string
		Volumes     []string
	}
	var file struct {
		Gateway  service `yaml:"x-gateway"`
		Services map[string]service
		Secrets  map[string]map[string]string
		Volumes  map[string]any
	}
	decoder := yaml.NewDecoder(strings.NewReader(example(t, "compose.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	same(t, "services", len(file.Services), 2)
	for name, s := range file.Services {
		same(t, name+"'s restart", s.Restart, "on-failure")
		same(t, name+"'s directory", s.Environment["HERMES_GATEWAY_LOCK_DIR"], "/locks")
		same(t, name+"'s volumes", s.Volumes, []string{"locks:/locks"})
		same(t, name+"'s secrets", s.Secrets, []string{"bot-token"})
		if !slices.Contains(s.Command, "/run/secrets/bot-token") {
			t.Errorf("%s does not use its secret: %q", name, s.Command)
		}
		tryExample(t, s.Command)
	}
	_, found := file.Volumes["locks"]
	same(t, "the volume is there", found, true)
	same(t, "the secret", file.Secrets["bot-token"]["file"], "./bot-token")
}
