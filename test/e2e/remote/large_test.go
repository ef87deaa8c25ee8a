package remote_test

import (
	"os/exec"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestLargeTransaction: a transaction that does not fit into memory, and of which pages that have
// gone to its file are written again, in another order, is in the store what it is in a local file.
func TestLargeTransaction(t *testing.T) {
	const made = `pragma cache_size=20;
begin;
create table t(k integer primary key, v);
with n(i) as (select 0 union all select i + 1 from n where i < 11999)
	insert into t select i, i || printf('%.*c', 1500 + i % 700, char(65 + i % 26)) from n;
with n(i) as (select 0 union all select i + 1 from n where i < 3999)
	update t set v=n.i || t.v from n where t.k = n.i * 7919 % 12000;
delete from t where k % 100 between 40 and 59;
with n(i) as (select 0 union all select i + 1 from n where i < 2999)
	insert or replace into t select i * 4001 % 12000, printf('%.*c', 2500, '+') || i from n;
commit;
`
	const sum = ".sha3sum\npragma integrity_check;\n"
	s := newStage(t, nil, nil)
	local := exec.Command(harness.SQLiteShell(t), "-batch", "-bail", s.Path("local.db"))
	local.Stdin = strings.NewReader(made + sum)
	b, err := local.Output()
	harness.Must(t, err)
	want := strings.TrimSpace(string(b))
	if !strings.HasSuffix(want, "\nok") {
		t.Fatalf("a local file: %q", want)
	}
	for _, size := range []string{"1024", "4096", "65536"} {
		name := size + ".db"
		for i, sql := range []string{"pragma page_size=" + size + ";\n" + made + sum, sum} {
			cmd, out := s.sqlite(t, s.machines[i], name, sql)
			err := cmd.Run()
			if got := strings.TrimSpace(out.String()); err != nil || got != want {
				t.Errorf("pages of %s, machine %d: %v, %q, want %q", size, i, err, got, want)
			}
		}
	}
}
