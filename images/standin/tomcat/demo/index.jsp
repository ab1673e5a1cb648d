<%@ page session="false" contentType="text/html; charset=UTF-8" pageEncoding="UTF-8"
         import="java.io.IOException, java.nio.charset.StandardCharsets, java.nio.file.Files, java.nio.file.Path,
                 java.sql.Connection, java.sql.DriverManager, java.sql.PreparedStatement, java.sql.ResultSet,
                 java.sql.SQLException, java.sql.Statement, java.util.ArrayList, java.util.List, java.util.Properties"
%><%--
  The page of the stand-in for kubeguide/tomcat-app:v1: the rows of HPE_APP.T_USERS, a form that adds one, and the name
  of the pod that served it. Where the database is comes from MYSQL_SERVICE_HOST and MYSQL_SERVICE_PORT, as in the
  original. While the database is starting a request is held and tried again for RETRY_MS, then answered with 503.
--%><%!
  static final long RETRY_MS = 8000;
  static final long RETRY_PAUSE_MS = 250;
  static final int CONNECT_TIMEOUT_MS = 2000;
  static final int SOCKET_TIMEOUT_MS = 5000;
  static final int MAX_NAME_CHARS = 64;
  static final int MAX_ROWS = 1000;
  // MariaDB's error numbers: no such database, no such table.
  static final int ER_BAD_DB = 1049;
  static final int ER_NO_SUCH_TABLE = 1146;
  static final String[][] SEED = {
    {"1", "me", "100"}, {"2", "our team", "100"}, {"3", "HPE", "100"}, {"4", "teacher", "100"}, {"5", "docker", "100"}};

  record Row(int id, String name, int level) {}

  static String env(String name, String fallback) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? fallback : value;
  }

  static String server() { return env("MYSQL_SERVICE_HOST", "mysql") + ":" + env("MYSQL_SERVICE_PORT", "3306"); }

  static Connection connect(String database) throws SQLException {
    Properties p = new Properties();
    p.setProperty("user", env("MYSQL_USER", "root"));
    p.setProperty("password", env("MYSQL_PASSWORD", "123456"));
    p.setProperty("connectTimeout", Integer.toString(CONNECT_TIMEOUT_MS));
    p.setProperty("socketTimeout", Integer.toString(SOCKET_TIMEOUT_MS));
    return DriverManager.getConnection("jdbc:mariadb://" + server() + "/" + database, p);
  }

  // Five replicas do this at the same moment: every statement is harmless when another was first.
  static void prepare() throws SQLException {
    try (Connection c = connect(""); Statement s = c.createStatement()) {
      s.execute("CREATE DATABASE IF NOT EXISTS HPE_APP CHARACTER SET utf8mb4");
      s.execute("CREATE TABLE IF NOT EXISTS HPE_APP.T_USERS (ID INT AUTO_INCREMENT PRIMARY KEY,"
                + " USER_NAME VARCHAR(" + MAX_NAME_CHARS + ") NOT NULL, LEVEL INT NOT NULL)");
      try (PreparedStatement i = c.prepareStatement("INSERT IGNORE INTO HPE_APP.T_USERS VALUES (?, ?, ?)")) {
        for (String[] row : SEED) {
          for (int k = 0; k < row.length; k++) i.setString(k + 1, row[k]);
          i.executeUpdate();
        }
      }
    }
  }

  static List<Row> rows() throws SQLException {
    List<Row> rows = new ArrayList<>();
    try (Connection c = connect("HPE_APP");
         PreparedStatement s = c.prepareStatement("SELECT ID, USER_NAME, LEVEL FROM T_USERS ORDER BY ID LIMIT ?")) {
      s.setInt(1, MAX_ROWS);
      try (ResultSet r = s.executeQuery()) {
        while (r.next()) rows.add(new Row(r.getInt(1), r.getString(2), r.getInt(3)));
      }
    }
    return rows;
  }

  static void add(String name, int level) throws SQLException {
    try (Connection c = connect("HPE_APP");
         PreparedStatement s = c.prepareStatement("INSERT INTO T_USERS (USER_NAME, LEVEL) VALUES (?, ?)")) {
      s.setString(1, name);
      s.setInt(2, level);
      s.executeUpdate();
    }
  }

  // The database is empty at first, and again after its pod was replaced.
  static boolean missing(SQLException e) {
    return e.getErrorCode() == ER_BAD_DB || e.getErrorCode() == ER_NO_SUCH_TABLE;
  }

  // Class 08 is "no connection": the server is starting, its name is not known yet, or it is gone. Nothing was done.
  static boolean starting(SQLException e) {
    return e.getSQLState() != null && e.getSQLState().startsWith("08");
  }

  // Reads the rows; with a name, adds a row first. A row is added once: only what certainly did nothing is tried again.
  static List<Row> serve(String name, int level) throws SQLException, InterruptedException {
    long until = System.nanoTime() + RETRY_MS * 1_000_000;
    boolean added = name == null;
    while (true) {
      try {
        if (!added) {
          rows();  // finds out, without side effects, whether server and table are there
          add(name, level);
          added = true;
        }
        return rows();
      } catch (SQLException e) {
        if (missing(e)) {
          prepare();
        } else if (!starting(e) || System.nanoTime() > until) {
          throw e;
        } else {
          Thread.sleep(RETRY_PAUSE_MS);
        }
      }
    }
  }

  static String pod() {
    try {
      return Files.readString(Path.of("/proc/sys/kernel/hostname")).trim();
    } catch (IOException e) {
      return env("HOSTNAME", "unknown");
    }
  }

  static String html(String s) {
    return s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;")
        .replace("'", "&#39;");
  }
%><%
  request.setCharacterEncoding(StandardCharsets.UTF_8.name());
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("X-Pod", pod());
  String name = null;
  String problem = null;
  int level = 100;
  if (request.getMethod().equals("POST")) {
    name = request.getParameter("name");
    name = name == null ? "" : name.trim();
    String given = request.getParameter("level");
    try {
      if (given != null && !given.isBlank()) level = Integer.parseInt(given.trim());
    } catch (NumberFormatException e) {
      problem = "level: \"" + given + "\" is not a whole number";
    }
    if (name.isEmpty() || name.length() > MAX_NAME_CHARS) {
      problem = "name: must have 1 to " + MAX_NAME_CHARS + " characters";
    }
    if (problem != null) {
      response.setStatus(400);
      name = null;
    }
  }
  List<Row> rows = List.of();
  try {
    rows = serve(name, level);
    if (name != null) {
      response.setStatus(303);
      response.setHeader("Location", request.getContextPath() + "/");
      return;
    }
  } catch (SQLException e) {
    response.setStatus(503);
    response.setHeader("Retry-After", "2");
    problem = "the database at " + server() + " does not answer yet: " + e.getMessage();
  }
%><!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>HPE University Docker&amp;Kubernetes Learning</title>
<style>
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 42em; padding: 0 1em }
table { border-collapse: collapse; width: 100% } th, td { border: 1px solid #bbb; padding: .3em .6em; text-align: left }
.problem { background: #fdd; padding: .5em } footer { color: #666; margin-top: 2em; font-size: 14px }
</style>
</head>
<body>
<h1>Congratulations!!</h1>
<p>Served by pod <b id="pod"><%= html(pod()) %></b>, rows read from <b><%= html(server()) %></b>.</p>
<% if (problem != null) { %><p class="problem"><%= html(problem) %></p>
<% } %><table>
<tr><th>ID</th><th>Name</th><th>Level (Score)</th></tr>
<% for (Row row : rows) { %><tr><td><%= row.id() %></td><td><%= html(row.name()) %></td><td><%= row.level() %></td></tr>
<% } %></table>
<h2>Add a row</h2>
<form method="post" action="<%= request.getContextPath() %>/">
<label>Name <input name="name" maxlength="<%= MAX_NAME_CHARS %>" required></label>
<label>Level <input name="level" type="number" value="100"></label>
<button>Add</button>
</form>
<footer>A stand-in for kubeguide/tomcat-app:v1, built by Keelson from Debian's tomcat10 and libmariadb-java.</footer>
</body>
</html>
