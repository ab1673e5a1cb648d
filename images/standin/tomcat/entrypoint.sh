#!/bin/sh
# Entry point of the stand-in for kubeguide/tomcat-app:v1. CDS_DUMP=file makes the archive of loaded classes at exit
# instead of using one (while the image is built).
set -eu
base=/srv/tomcat
lib=/usr/share/java
classpath=$lib/tomcat10-juli.jar
for jar in catalina coyote util util-scan servlet-api jsp-api el-api api annotations-api jaspic-api jni jasper jasper-el; do
  classpath=$classpath:$lib/tomcat10-$jar.jar
done
classpath=$classpath:$lib/eclipse-jdt-core.jar:$lib/mariadb-java-client.jar
if [ -n "${CDS_DUMP:-}" ]; then
  cds=-XX:ArchiveClassesAtExit=$CDS_DUMP
else
  cds=-XX:SharedArchiveFile=$base/classes.jsa
fi
# shellcheck disable=SC2086
exec /usr/bin/java $cds -Xshare:auto -Xmx64m -Xms8m -Xss256k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -XX:ReservedCodeCacheSize=24m -XX:MaxMetaspaceSize=64m -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError \
  -Djava.security.egd=file:/dev/urandom -Djava.awt.headless=true -Djava.io.tmpdir=$base/temp \
  -Dcatalina.home=$base -Dcatalina.base=$base -Dsun.net.inetaddr.ttl=5 -Dsun.net.inetaddr.negative.ttl=0 \
  -Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager \
  -Djava.util.logging.config.file=$base/conf/logging.properties \
  ${JAVA_OPTS:-} -cp "$classpath" org.apache.catalina.startup.Bootstrap start
