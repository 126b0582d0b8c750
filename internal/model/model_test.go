// Package model_test sees that the README of the model names lines that are there.
package model_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestREADMENamesLines(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(\w+\.go):(\d+) (\w+)`).FindAllStringSubmatch(string(text), -1)
	if len(named) == 0 {
		t.Fatal("it names none")
	}
	for _, n := range named {
		source, err := os.ReadFile(filepath.Join("..", "..", n[1]))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(source), "\n")
		i, _ := strconv.Atoi(n[2])
		if function := regexp.MustCompile(`^func (\([^)]*\) )?` + n[3] + `\(`); i > len(lines) || !function.MatchString(lines[i-1]) {
			t.Errorf("%s:%d is not the function %s", n[1], i, n[3])
		}
	}
}
