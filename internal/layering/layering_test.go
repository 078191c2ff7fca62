// Package layering keeps the arrows between packages: who may import whom.
package layering

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postbus/postbus"

// arrows says which packages of this module each package may import, besides what those may import in turn. Packages
// below an internal folder are transparent: what they import counts as imported by whoever imports them. A package below
// one of these that is not named itself may import that one and what it may. Tests may import anything. A new noun takes
// its place here first, and in .golangci.yml.
var arrows = map[string][]string{
	"":                                   {},
	"bus":                                {"transport", "codec"},
	"bus/busfx":                          {"bus"},
	"bus/bustest":                        {"bus", "transport/memory"},
	"config":                             {"bus", "middleware", "transport"},
	"config/configfx":                    {"config", "bus/busfx"},
	"codec":                              {},
	"transport":                          {},
	"transport/postgres":                 {"transport", "store"},
	"transport/mysql":                    {"transport", "store"},
	"transport/sqlite":                   {"transport", "store"},
	"describe":                           {"bus"},
	"describe/describefx":                {"describe", "bus/busfx"},
	"middleware":                         {"bus"},
	"middleware/quarantine":              {"middleware", "store"},
	"middleware/quarantine/quarantinefx": {"middleware/quarantine", "bus/busfx", "config"},
	"middleware/dedup":                   {"bus", "store"},
	"middleware/telemetry":               {"bus"},
	"middleware/telemetry/telemetryfx":   {"middleware/telemetry", "config"},
	"store":                              {},
	"store/storefx":                      {"store", "config"},
	"outbox":                             {"bus", "store", "transport"},
	"outbox/outboxfx":                    {"outbox", "bus/busfx", "config"},
	"saga":                               {"bus", "outbox", "store"},
	"saga/sagafx":                        {"saga", "bus/busfx", "config"},
	"saga/sagatest":                      {"saga", "bus/bustest"},
	"saga/sagatelemetry":                 {"saga"},
	"saga/sagatelemetry/sagatelemetryfx": {"saga/sagatelemetry", "config"},
}

// core must link none of heavy, however indirectly: a program that stays in process pays for no broker.
var (
	core  = []string{"bus", "transport", "transport/memory", "codec"}
	heavy = []string{
		"database/sql",
		"github.com/jackc/pgx", "github.com/lib/pq", "github.com/go-sql-driver/mysql", "modernc.org/sqlite",
		"github.com/mattn/go-sqlite3", "github.com/rabbitmq/amqp091-go",
		"go.uber.org/fx", "go.uber.org/dig", "github.com/ThreeDotsLabs",
	}
	fx = []string{"go.uber.org/fx", "go.uber.org/dig"}
)

// pkg is a package as go list -json prints it; paths in this module are relative to it.
type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func TestArrows(t *testing.T) {
	for _, fault := range faults(load(t)) {
		t.Error(fault)
	}
}

func TestFaultsAreSeen(t *testing.T) {
	for name, tc := range map[string]struct {
		pkgs []pkg
		want string
	}{
		"backwards": {
			[]pkg{{ImportPath: "transport", Imports: []string{"./bus"}}},
			"transport imports bus",
		},
		"sideways": {
			[]pkg{{ImportPath: "transport/postgres", Imports: []string{"./transport/mysql"}}},
			"transport/postgres imports transport/mysql",
		},
		"hidden behind internal": {
			[]pkg{
				{ImportPath: "store", Imports: []string{"./internal/a"}},
				{ImportPath: "internal/a", Imports: []string{"./store/internal/b"}},
				{ImportPath: "store/internal/b", Imports: []string{"./outbox"}},
			},
			"store imports outbox",
		},
		"parent to child": {[]pkg{{ImportPath: "transport", Imports: []string{"./transport/memory"}}}, "transport imports transport/memory"},
		"unknown package": {[]pkg{{ImportPath: "util"}}, "util has no place"},
		"fx elsewhere":    {[]pkg{{ImportPath: "saga", Imports: []string{"go.uber.org/fx"}}}, "saga imports go.uber.org/fx"},
		"heavy core":      {[]pkg{{ImportPath: "bus", Deps: []string{"github.com/jackc/pgx/v5/stdlib"}}}, "bus links github.com/jackc/pgx/v5/stdlib"},
		"allowed": {
			[]pkg{
				{ImportPath: "saga", Imports: []string{"./outbox", "./transport", "fmt"}},
				{ImportPath: "transport/memory", Imports: []string{"./transport"}},
				{ImportPath: "saga/sagafx", Imports: []string{"./saga", "go.uber.org/fx"}},
				{ImportPath: "examples/shop", Imports: []string{"./saga", "./transport/rabbitmq", "go.uber.org/fx"}},
			},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range tc.pkgs {
				for j, path := range tc.pkgs[i].Imports {
					if rel, ok := strings.CutPrefix(path, "./"); ok {
						tc.pkgs[i].Imports[j] = module + "/" + rel
					}
				}
			}
			switch got := faults(tc.pkgs); {
			case tc.want == "" && len(got) > 0:
				t.Errorf("got %q, want no fault", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("got %q, want one fault that says %q", got, tc.want)
			}
		})
	}
}

func faults(pkgs []pkg) (found []string) {
	byPath := map[string]pkg{}
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	for _, p := range pkgs {
		free := isInternal(p.ImportPath) || within(p.ImportPath, "examples") || within(p.ImportPath, "cmd")
		if !free {
			may, known := allowed(p.ImportPath)
			if !known {
				found = append(found, fmt.Sprintf("%s has no place in the table of arrows (internal/layering)", p.ImportPath))
				continue
			}
			for _, to := range reached(p, byPath, map[string]bool{}) {
				if to != p.ImportPath && !may[to] {
					found = append(found, fmt.Sprintf("%s imports %s, which it must not (internal/layering)", p.ImportPath, to))
				}
			}
		}
		for _, path := range p.Imports {
			if under(path, fx) && !strings.HasSuffix(p.ImportPath, "fx") && !within(p.ImportPath, "examples") {
				found = append(found, fmt.Sprintf("%s imports %s: only packages named …fx may", p.ImportPath, path))
			}
		}
		if slices.Contains(core, p.ImportPath) {
			for _, path := range p.Deps {
				if under(path, heavy) {
					found = append(found, fmt.Sprintf("%s links %s: the core and the in-process transport must not", p.ImportPath, path))
				}
			}
		}
	}
	return found
}

// reached lists the packages of this module that p imports, those that it reaches through internal packages included.
func reached(p pkg, byPath map[string]pkg, seen map[string]bool) (to []string) {
	for _, path := range p.Imports {
		rel, ours := relative(path)
		if !ours || seen[rel] {
			continue
		}
		seen[rel] = true
		if isInternal(rel) {
			to = append(to, reached(byPath[rel], byPath, seen)...)
		} else {
			to = append(to, rel)
		}
	}
	return to
}

// allowed lists what the package may import; it is unknown if neither it nor a folder above it is in the table.
func allowed(of string) (may map[string]bool, known bool) {
	may = map[string]bool{}
	for in := of; in != "."; in = path.Dir(in) {
		if _, known := arrows[in]; known {
			may[in] = true
			follow(in, may)
			return may, true
		}
	}
	return nil, false
}

func follow(from string, may map[string]bool) {
	for _, to := range arrows[from] {
		if !may[to] {
			may[to] = true
			follow(to, may)
		}
	}
}

func relative(path string) (rel string, ours bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func isInternal(rel string) bool      { return slices.Contains(strings.Split(rel, "/"), "internal") }
func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
func under(path string, of []string) bool {
	return slices.ContainsFunc(of, func(folder string) bool { return within(path, folder) })
}

// load asks go list for the packages of this module.
func load(t *testing.T) (pkgs []pkg) {
	t.Helper()
	root := filepath.Join("..", "..")
	// go list reads the sources unseen by go test, which would then cache this result: look at each of them here.
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath, _ = relative(p.ImportPath)
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 2 {
		t.Fatalf("go list found %d packages, want the whole module", len(pkgs))
	}
	return pkgs
}
