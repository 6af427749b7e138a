package main

import (
	"fmt"
	"os"
)

// reporter stands where Istio's test library expects a test. What would fail the test ends the
// program: a mesh that refuses its configuration must not look like one that serves none.
type reporter struct {
	cleanups []func()
}

func (r *reporter) die(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

func (r *reporter) Fail()                             { r.die("failed") }
func (r *reporter) FailNow()                          { r.die("failed") }
func (r *reporter) Fatal(args ...any)                 { r.die(fmt.Sprint(args...)) }
func (r *reporter) Fatalf(format string, args ...any) { r.die(fmt.Sprintf(format, args...)) }
func (r *reporter) Skip(args ...any)                  { r.die(fmt.Sprint(args...)) }
func (r *reporter) Log(args ...any)                   { fmt.Fprintln(os.Stderr, args...) }
func (r *reporter) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (r *reporter) Helper()                           {}
func (r *reporter) Cleanup(cleanup func())            { r.cleanups = append(r.cleanups, cleanup) }

func (r *reporter) TempDir() string {
	directory, err := os.MkdirTemp("", "istiod-xds-")
	if err != nil {
		r.die(err.Error())
	}
	r.Cleanup(func() { _ = os.RemoveAll(directory) })
	return directory
}

// cleanUp runs what was asked for, last first, as a test does.
func (r *reporter) cleanUp() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}
