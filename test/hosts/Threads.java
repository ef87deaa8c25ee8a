import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

/**
 * Threads LIBRARY URL JOURNAL: eight threads write to one database, while the JVM does what it
 * needs signals for: null pointers that are caught, stacks that overflow, collections of garbage.
 * It says so and goes on until it is asked to end.
 */
class Threads {
  static final Properties extensions = new Properties();
  static final Object[] objects = {null, "one"};

  static String ask(Connection c, String sql) throws SQLException {
    try (Statement s = c.createStatement()) {
      if (!s.execute(sql)) {
        return "";
      }
      ResultSet r = s.getResultSet();
      return r.next() ? r.getString(1) : "";
    }
  }

  static int endless(int n) {
    return endless(n + 1) + 1;
  }

  static int caught() {
    int n = 0;
    for (int i = 0; i < 1000; i++) {
      try {
        objects[i % 2].hashCode();
      } catch (NullPointerException e) {
        n++;
      }
    }
    try {
      endless(0);
    } catch (StackOverflowError e) {
      n++;
    }
    System.gc();
    return n;
  }

  static int write(String url) throws SQLException {
    int n = 0;
    try (Connection c = DriverManager.getConnection(url, extensions)) {
      ask(c, "pragma busy_timeout=60000");
      for (int i = 0; i < 10; i++) {
        ask(c, "insert into t values(randomblob(3000))");
        n += caught();
      }
    }
    return n;
  }

  public static void main(String[] args) throws Exception {
    String library = args[0], url = args[1], mode = args[2];
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("ended")));
    extensions.setProperty("enable_load_extension", "true");
    ask(DriverManager.getConnection("jdbc:sqlite::memory:", extensions),
        "select load_extension('" + library + "')");
    Connection c = DriverManager.getConnection(url, extensions);
    if (!mode.equals("remote")) {
      ask(c, "pragma journal_mode=" + mode);
    }
    ask(c, "create table t(b)");
    ExecutorService threads = Executors.newFixedThreadPool(8);
    List<Future<Integer>> all = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      all.add(threads.submit(() -> write(url)));
    }
    int n = 0;
    for (Future<Integer> f : all) {
      n += f.get();
    }
    threads.shutdown();
    System.out.println(ask(c, "select count(*) from t") + " rows, " + n + " caught");
    System.out.println("flush " + ask(c, "pragma verneuil_flush_replication_data"));
    System.in.read();
  }
}
